"""One evaluation over several processes, as torchrun starts them: each has a share, the first joins the samples.

Shares are whole questions that are still incomplete, so a killed evaluation resumes with any number of processes,
and the joined file is the one that a single process writes.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.evaluation.evaluate_task import adopt, ask_model, evaluate_task
from jmedllm.evaluation.generate import incomplete_questions
from jmedllm.evaluation.judge import Judge
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.records import read_samples, write_samples
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.resume import begin, files_of
from jmedllm.evaluation.task import EvalTask
from jmedllm.files import LOCK, locked
from jmedllm.models.backends.base import InferenceModel
from jmedllm.models.chat import ChatText, no_template
from jmedllm.processes import Rank, process_group, wait


def evaluate_shares(
    tasks: Sequence[EvalTask],
    settings: dict[str, Any],
    load: Callable[[], InferenceModel],
    output: Path,
    here: Rank,
    chat_text: ChatText = no_template,
    judge: Judge | None = None,
) -> list[EvalResult]:
    """Evaluate tasks together with the other processes; only the first one returns results.

    Args:
        settings: everything about the model that shapes its answers.
        load: returns the model.
        output: gets the samples, on a disk that all processes see.
        chat_text: see `evaluate_task`.
        judge: asked by the first process only.

    Raises:
        InputError: see `evaluate_task`.
    """
    results = []
    with process_group(), locked(output if here.global_rank == 0 else output / _folder(here.global_rank)):
        for task in tasks:
            if here.global_rank == 0:
                join_shares(task, settings, output)
            wait()
            share = _incomplete(task, output)[here.global_rank :: here.world_size]
            problem = None
            try:
                if share:
                    part = replace(task, questions=tuple(share))
                    _seed(part, settings, output, output / _folder(here.global_rank))
                    ask_model(part, settings, load, output / _folder(here.global_rank), chat_text)
            except InputError as error:
                problem = str(error)
            _agree(problem, here)
            if here.global_rank == 0:
                join_shares(task, settings, output)
                results.append(evaluate_task(task, settings, load, output, chat_text, judge))
            wait()
        if here.global_rank == 0:
            remove_empty_shares(output)
    return results


_FOLDER = "rank-"


def _folder(rank: int) -> str:
    return f"{_FOLDER}{rank}"


def is_share(folder: Path) -> bool:
    """Whether a folder has one process's share of an evaluation, which is not an evaluation of its own."""
    return folder.name.removeprefix(_FOLDER).isdigit() and folder.name.startswith(_FOLDER)


def shares(output: Path) -> list[Path]:
    """The folders of shares in the folder of an evaluation."""
    return sorted(filter(is_share, output.glob(f"{_FOLDER}*")))


def join_shares(task: EvalTask, settings: dict[str, Any], output: Path) -> None:
    """Take over what the processes of a killed evaluation, or of this one, left of a task, and remove it.

    Raises:
        InputError: it was evaluated under other settings.
    """
    for folder in shares(output):
        theirs = files_of(task.name, folder)
        adopt(task, settings, theirs, files_of(task.name, output))
        for file in theirs.every():
            file.unlink(missing_ok=True)


def remove_empty_shares(output: Path) -> None:
    """Remove the folders of shares that were joined."""
    for folder in shares(output):
        if {file.name for file in folder.iterdir()} <= {LOCK}:
            shutil.rmtree(folder)


def _incomplete(task: EvalTask, output: Path) -> list[Question]:
    """The questions for which something must still be asked."""
    missing = set(incomplete_questions(task, files_of(task.name, output)))
    return [question for question in task.questions if question.id in missing]


def _seed(part: EvalTask, settings: dict[str, Any], output: Path, share: Path) -> None:
    """Give a share the samples that there are of its questions, so that only what they lack is asked for."""
    keys = {each.key for each in part.presented()}
    known = [sample for sample in read_samples(files_of(part.name, output).samples).values() if sample.id in keys]
    files = files_of(part.name, share)
    if known and not files.samples.exists():
        begin(files.summary, settings | part.settings(), len(part.questions), part.source)
        write_samples(files.samples, known)


def _agree(problem: str | None, here: Rank) -> None:
    """Wait for all; if one of them has failed, the first reports why and the others exit silently."""
    import torch.distributed as dist

    problems: list[str | None] = [None] * here.world_size
    dist.all_gather_object(problems, problem)
    for found in problems:
        if found is not None:
            if here.global_rank == 0:
                raise InputError(found)
            sys.exit(2)
