"""Evaluate one model on one task: resume from stored samples, generate missing ones, and score all of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jmedllm.evaluation.generate import collect_samples
from jmedllm.evaluation.judge import Judge, collect_replies, judge_settings
from jmedllm.evaluation.records import Sample, read_samples, write_samples
from jmedllm.evaluation.response_config import ResponseConfig
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.resume import EvalFiles, begin, begun_settings, differing_settings, files_of, require_same
from jmedllm.evaluation.score import Evaluation, write_result
from jmedllm.evaluation.task import EvalTask
from jmedllm.evaluation.thought_evidence import resolve_thoughts, resolved_note
from jmedllm.models.backends.base import InferenceModel
from jmedllm.models.chat import ChatText, no_template


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model that has been checked but not loaded.

    Attributes:
        settings: everything about the model that shapes its responses, at least its name as "model" and its
            "fingerprint".
        open: returns the loaded model; called for each task with missing samples.
        chat_text: formats chat messages as a prompt.
        notes: remarks on the model for reports.
        image_marker: text that stands for a picture in prompts; None if the model is shown no pictures.
        responses: what shapes the model's responses; None for what the tasks say.
    """

    settings: dict[str, Any]
    open: Callable[[], InferenceModel]
    chat_text: ChatText = no_template
    notes: tuple[str, ...] = ()
    image_marker: str | None = None
    responses: ResponseConfig | None = None


def evaluate_task(task: EvalTask, model: PreparedModel, folder: Path, judge: Judge | None = None) -> EvalResult:
    """Evaluate a model on a task. Samples in `folder` are kept; the model is loaded only if some are missing.

    Args:
        task: questions, prompts and scorers.
        model: model to evaluate.
        folder: directory of the files in `resume.EvalFiles`.
        judge: judge model, for scorers that use one.

    Raises:
        InputError: `folder` contains samples with other settings or foreign files, the model cannot be asked an item,
            or the folder cannot be written.
    """
    files = files_of(task.name, folder)
    stored = ask_model(task, model, folder, judge)
    samples = resolve_thoughts(stored)
    settings = model.settings | task.settings() | judge_settings(judge, begun_settings(files))
    notes = task.notes + resolved_note(stored, samples)
    found = Evaluation(task.questions, samples, settings, task.selected, task.left_out, notes, task.source)
    replies = collect_replies(found, judge, files.judge, skip_invalid=task.skip_invalid)
    return write_result(replace(found, replies=replies), files)


def ask_model(task: EvalTask, model: PreparedModel, folder: Path, judge: Judge | None = None) -> dict[str, Sample]:
    """Complete the samples of a task, as the first half of `evaluate_task`; return them by id."""
    files = files_of(task.name, folder)
    settings = model.settings | task.settings()
    if begun := begun_settings(files):
        require_same(files.summary, begun, settings)
    settings |= judge_settings(judge, begun)
    return collect_samples(task, settings, model.open, files, model.chat_text)


def forget(task: EvalTask, model_settings: dict[str, Any], files: EvalFiles) -> None:
    """Remove the files of a task that was evaluated under other settings.

    Raises:
        InputError: the files were not written by `jmedllm eval`.
    """
    begun = begun_settings(files)
    if begun is not None and differing_settings(begun, model_settings | task.settings()):
        for path in files.every():
            path.unlink(missing_ok=True)


def adopt(task: EvalTask, model_settings: dict[str, Any], theirs: EvalFiles, ours: EvalFiles) -> None:
    """Replace the samples of this process by those of another process with the same settings.

    Raises:
        InputError: either has other settings, or was not written by `jmedllm eval`.
    """
    settings = model_settings | task.settings()
    for files in (theirs, ours):
        if (begun := begun_settings(files)) is not None:
            require_same(files.summary, begun, settings)
    if added := read_samples(theirs.samples, repair=True):
        before = read_samples(ours.samples, repair=True)
        settings |= judge_settings(None, begun_settings(ours))
        begin(ours.summary, settings, len(task.questions), task.source)
        write_samples(ours.samples, (before | added).values())
