"""All items with what each model made of them, packed for the page's browser of items.

A paper becomes one gzipped JSON list, in base64: 20,000 questions and answers as plain JSON would not fit a page.
"""

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jmedllm.evaluation.calibration import probabilities
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.records import Record
from jmedllm.evaluation.scorers import item_score_of
from jmedllm.evaluation.scorers.legacy import LegacyItemScore
from jmedllm.files import to_json
from jmedllm.models.backends.top_logprobs import UNLISTED
from jmedllm.report.collect import CollectedResult
from jmedllm.report.questions import Papers


@dataclass(frozen=True, slots=True)
class PackedTask:
    """One paper's items.

    Attributes:
        name: "igakuqa.ja", as the records' file is called.
        models: models that sat it, in the order of each item's answers.
        scorers: tracks that judged it.
        packed: base64 of gzip of a JSON list of items, see `_item`.
    """

    name: str
    benchmark: str
    language: str
    n: int
    models: tuple[str, ...]
    scorers: tuple[str, ...]
    packed: str


def pack(sat: Sequence[CollectedResult], tasks: Papers) -> list[PackedTask]:
    """Each paper with the answers of all models that sat it."""
    return [_pack_task(task, questions, sat) for task, questions in tasks.items()]


def _pack_task(task: tuple[str, str], questions: Mapping[str, Question], sat: Sequence[CollectedResult]) -> PackedTask:
    here = [each for each in sat if each.task == task]
    items = [
        _item(question, [_answer(each.records.get(name), each.turns.get(name, ())) for each in here])
        for name, question in questions.items()
    ]
    return PackedTask(
        name=".".join(task),
        benchmark=task[0],
        language=task[1],
        n=len(items),
        models=tuple(each.result.model for each in here),
        scorers=tuple(dict.fromkeys(scorer for each in here for scorer in each.result.settings["scorers"])),
        # No time stamp: the same results give the same page.
        packed=base64.b64encode(gzip.compress(to_json(items).encode(), mtime=0)).decode("ascii"),
    )


def _item(question: Question, answers: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """A question as the page reads it; what is empty is left out."""
    values = {
        "gold": sorted(question.gold),
        "also": [sorted(answer) for answer in question.also_right],
        "number": question.number,
        "subject": question.subject,
        "flags": sorted(question.flags),
        "prohibited": sorted(question.prohibited),
        "examinees": question.examinees,
        "examineesRight": question.examinees_right,
    }
    return {
        "id": question.id,
        "stem": question.stem,
        "choices": question.choices,
        "points": question.points,
        **{name: value for name, value in values.items() if value not in ([], (), None)},
        "answers": answers,
    }


def _answer(record: Record | None, turns: Sequence[Record]) -> dict[str, Any] | None:
    if record is None:
        return None
    known = record.log_probs is not None and UNLISTED not in record.log_probs
    shares = [round(p, 4) for p in probabilities(record.log_probs or ())] if known else None
    values = {
        "response": record.response,
        "truncated": record.truncated or None,
        "probabilities": shares,
        "order": None if list(record.order) == sorted(record.order) else record.order,
        "turns": [{"order": turn.order, "item_scores": _item_scores(turn)} for turn in turns] or None,
    }
    return {
        **{name: value for name, value in values.items() if value is not None},
        "item_scores": _item_scores(record),
    }


def _item_scores(record: Record) -> dict[str, dict[str, Any]]:
    """Each track's verdict with its main metric's outcome as "correct".

    An empty response that the published protocol picked a choice for is marked `"answered": False`.
    """
    found = {}
    for scorer, values in record.item_scores.items():
        item_score = item_score_of(scorer, values)
        found[scorer] = values | {"correct": bool(item_score.correct)}
        if isinstance(item_score, LegacyItemScore) and not item_score.answered:
            found[scorer] |= {"answered": False, "how": item_score.how}
    return found
