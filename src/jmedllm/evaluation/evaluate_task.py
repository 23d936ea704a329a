"""One model on one task: resume what is there, ask for what is missing, score everything."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jmedllm.evaluation.generate import collect_samples
from jmedllm.evaluation.judge import Judge, collect_replies
from jmedllm.evaluation.records import Sample, read_samples, write_samples
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.resume import EvalFiles, begin, begun_settings, differing_settings, files_of, require_same
from jmedllm.evaluation.score import Evaluation, write_result
from jmedllm.evaluation.task import EvalTask
from jmedllm.models.backends.base import InferenceModel
from jmedllm.models.chat import ChatText, no_template


def evaluate_task(
    task: EvalTask,
    model_settings: dict[str, Any],
    load: Callable[[], InferenceModel],
    folder: Path,
    chat_text: ChatText = no_template,
    judge: Judge | None = None,
) -> EvalResult:
    """Evaluate a model on a task. Samples in `folder` are kept; the model is loaded only if some are missing.

    Args:
        task: what is evaluated.
        model_settings: name, fingerprint, precision: everything that shapes the samples besides the task.
        load: returns the model.
        folder: gets the files of `resume.EvalFiles`.
        chat_text: the model's chat template, if the task is asked by chat.
        judge: for scorers that grade with a judge model.

    Raises:
        InputError: `folder` has samples of the task under other settings or files of the user's, an item cannot be
            asked, or the folder cannot be written.
    """
    files = files_of(task.name, folder)
    samples = ask_model(task, model_settings, load, folder, chat_text)
    settings = model_settings | task.settings()
    if judge is not None:
        settings["judge"] = {"model": judge.name, "fingerprint": judge.fingerprint}
    found = Evaluation(task.questions, samples, settings, task.selected, task.left_out, task.notes, task.source)
    return write_result(replace(found, replies=collect_replies(found, judge, files.judge)), files)


def ask_model(
    task: EvalTask,
    model_settings: dict[str, Any],
    load: Callable[[], InferenceModel],
    folder: Path,
    chat_text: ChatText = no_template,
) -> dict[str, Sample]:
    """The first half of `evaluate_task`: all samples of the task, by id."""
    files = files_of(task.name, folder)
    settings = model_settings | task.settings()
    if begun := begun_settings(files):
        require_same(files.summary, begun, settings)
    return collect_samples(task, settings, load, files, chat_text)


def forget(task: EvalTask, model_settings: dict[str, Any], files: EvalFiles) -> None:
    """Remove the files of a task that was evaluated under other settings.

    Raises:
        InputError: the files are not ours.
    """
    begun = begun_settings(files)
    if begun is not None and differing_settings(begun, model_settings | task.settings()):
        for path in files.every():
            path.unlink(missing_ok=True)


def adopt(task: EvalTask, model_settings: dict[str, Any], theirs: EvalFiles, ours: EvalFiles) -> None:
    """Take over the samples of another process, evaluated under the same settings; they replace ours.

    Raises:
        InputError: either was evaluated under other settings, or is not ours.
    """
    settings = model_settings | task.settings()
    for files in (theirs, ours):
        if (begun := begun_settings(files)) is not None:
            require_same(files.summary, begun, settings)
    if added := read_samples(theirs.samples, repair=True):
        before = read_samples(ours.samples, repair=True)
        begin(ours.summary, settings, len(task.questions), task.source)
        write_samples(ours.samples, (before | added).values())
