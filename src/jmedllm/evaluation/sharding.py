"""One exam over several processes, as torchrun starts them: each sits its share, the first joins the records.

Shares are whole questions that nobody has answered yet, so a killed exam goes on with any number of processes, and
the joined file is the one that a single process writes.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.evaluation.records import read_finished
from jmedllm.evaluation.task import EvalResult, EvalTask, adopt, evaluate_task
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
) -> list[EvalResult]:
    """Sit the papers together with the other processes; only the first one returns sittings.

    Args:
        settings: all of the model that shapes its answers.
        load: gives the model.
        output: gets the records, on a disk that all processes see.
        chat_text: see `evaluate_task`.

    Raises:
        InputError: see `evaluate_task`.
    """
    results = []
    with process_group(), locked(output if here.global_rank == 0 else output / _folder(here.global_rank)):
        for task in tasks:
            if here.global_rank == 0:
                join_shares(task, settings, output)
            wait()
            share = _missing(task, output)[here.global_rank :: here.world_size]
            problem = None
            try:
                if share:
                    part = replace(task, questions=tuple(share))
                    evaluate_task(part, settings, load, output / _folder(here.global_rank), chat_text)
            except InputError as error:
                problem = str(error)
            _agree(problem, here)
            if here.global_rank == 0:
                join_shares(task, settings, output)
                results.append(evaluate_task(task, settings, load, output, chat_text))
            wait()
        if here.global_rank == 0:
            remove_empty_shares(output)
    return results


_FOLDER = "rank-"


def _folder(rank: int) -> str:
    return f"{_FOLDER}{rank}"


def is_share(folder: Path) -> bool:
    """Whether a folder holds one process's share of an exam, which is no exam of its own."""
    return folder.name.removeprefix(_FOLDER).isdigit() and folder.name.startswith(_FOLDER)


def shares(output: Path) -> list[Path]:
    """The folders of shares in the folder of an exam."""
    return sorted(filter(is_share, output.glob(f"{_FOLDER}*")))


def join_shares(task: EvalTask, settings: dict[str, Any], output: Path) -> None:
    """Take over what the processes of a killed exam, or those of this one, left of a paper, and remove it.

    Raises:
        InputError: it was sat under other settings.
    """
    for folder in shares(output):
        adopt(task, settings, folder, output)
        for file in folder.glob(f"{task.name}.json*"):
            file.unlink()


def remove_empty_shares(output: Path) -> None:
    """Remove what is left of shares that were joined."""
    for folder in shares(output):
        if {file.name for file in folder.iterdir()} <= {LOCK}:
            shutil.rmtree(folder)


def _missing(task: EvalTask, output: Path) -> list[Any]:
    file = output / f"{task.name}.jsonl"
    there = read_finished(file) if file.exists() else {}
    waiting = {presented.question.id for presented in task.showings() if presented.key not in there}
    return [question for question in task.questions if question.id in waiting]


def _agree(problem: str | None, here: Rank) -> None:
    """Wait for all; where one of them cannot go on, the first says why and the others leave without a word."""
    import torch.distributed as dist

    problems: list[str | None] = [None] * here.world_size
    dist.all_gather_object(problems, problem)
    for found in problems:
        if found is not None:
            if here.global_rank == 0:
                raise InputError(found)
            sys.exit(2)
