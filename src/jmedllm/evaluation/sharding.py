"""Evaluate with several processes: each evaluates a share of the questions, the first joins the samples.

Only incomplete questions are shared out, so a killed evaluation can resume with any number of processes. The joined
file equals that of a single process.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.evaluation.evaluate_task import PreparedModel, adopt, ask_model, evaluate_task
from jmedllm.evaluation.generate import incomplete_questions
from jmedllm.evaluation.judge import Judge
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.records import read_samples, write_samples
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.resume import begin, files_of
from jmedllm.evaluation.task import EvalTask
from jmedllm.locks import LOCK, locked
from jmedllm.processes import Rank, process_group, wait


def evaluate_shares(
    tasks: Sequence[EvalTask],
    model: PreparedModel,
    output: Path,
    here: Rank,
    judge: Judge | None = None,
) -> list[EvalResult]:
    """Evaluate tasks together with the other processes; only the first process returns results.

    Args:
        tasks: tasks to evaluate.
        model: model to evaluate.
        output: directory of the samples, on a disk that all processes share.
        here: rank of this process.
        judge: judge model, used by the first process only.

    Raises:
        InputError: see `evaluate_task`.
    """
    results = []
    with process_group(), locked(output if here.global_rank == 0 else output / _folder(here.global_rank)):
        for task in tasks:
            if here.global_rank == 0:
                join_shares(task, model.settings, output)
            wait()
            share = _incomplete(task, output)[here.global_rank :: here.world_size]
            problem = None
            try:
                if share:
                    part = replace(task, questions=tuple(share))
                    _seed(part, model.settings, output, output / _folder(here.global_rank))
                    ask_model(part, model, output / _folder(here.global_rank))
            except InputError as error:
                problem = str(error)
            _agree(problem, here)
            if here.global_rank == 0:
                join_shares(task, model.settings, output)
                try:
                    results.append(evaluate_task(task, model, output, judge))
                except InputError as error:  # of a judge, say
                    problem = str(error)
            wait()
            _agree(problem, here)
        if here.global_rank == 0:
            remove_empty_shares(output)
    return results


_FOLDER = "rank-"


def _folder(rank: int) -> str:
    return f"{_FOLDER}{rank}"


def is_share(folder: Path) -> bool:
    """Return whether a folder contains the share of one process, which is not a complete evaluation."""
    return folder.name.removeprefix(_FOLDER).isdigit() and folder.name.startswith(_FOLDER)


def shares(output: Path) -> list[Path]:
    """Return the share folders in the folder of an evaluation."""
    return sorted(filter(is_share, output.glob(f"{_FOLDER}*")))


def join_shares(task: EvalTask, settings: dict[str, Any], output: Path) -> None:
    """Join the shares of a task into `output` and remove them; they may be left from a killed evaluation.

    Raises:
        InputError: a share has other settings.
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
    """Return the questions with incomplete samples."""
    missing = set(incomplete_questions(task, files_of(task.name, output)))
    return [question for question in task.questions if question.id in missing]


def _seed(part: EvalTask, settings: dict[str, Any], output: Path, share: Path) -> None:
    """Copy existing samples of a share's questions into the share, so that only missing outputs are generated."""
    keys = {each.key for each in part.presented()}
    known = [sample for sample in read_samples(files_of(part.name, output).samples).values() if sample.id in keys]
    files = files_of(part.name, share)
    if known and not files.samples.exists():
        begin(files.summary, settings | part.settings(), len(part.questions), part.source)
        write_samples(files.samples, known)


def _agree(problem: str | None, here: Rank) -> None:
    """Wait for all processes; if one has failed, the first reports why and the others exit silently."""
    import torch.distributed as dist

    problems: list[str | None] = [None] * here.world_size
    dist.all_gather_object(problems, problem)
    for found in problems:
        if found is not None:
            if here.global_rank == 0:
                raise InputError(found)
            sys.exit(2)
