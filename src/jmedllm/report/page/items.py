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
from jmedllm.evaluation.scorers import verdict_of
from jmedllm.evaluation.scorers.legacy import LegacyVerdict
from jmedllm.files import to_json
from jmedllm.models.backends.top_logprobs import UNLISTED
from jmedllm.report.collect import Sat
from jmedllm.report.questions import Papers


@dataclass(frozen=True, slots=True)
class PackedPaper:
    """One paper's items.

    Attributes:
        name: "igakuqa.ja", as the records' file is called.
        models: models that sat it, in the order of each item's answers.
        tracks: tracks that judged it.
        packed: base64 of gzip of a JSON list of items, see `_item`.
    """

    name: str
    benchmark: str
    language: str
    n: int
    models: tuple[str, ...]
    tracks: tuple[str, ...]
    packed: str


def pack(sat: Sequence[Sat], papers: Papers) -> list[PackedPaper]:
    """Each paper with the answers of all models that sat it."""
    return [_pack_paper(paper, questions, sat) for paper, questions in papers.items()]


def _pack_paper(paper: tuple[str, str], questions: Mapping[str, Question], sat: Sequence[Sat]) -> PackedPaper:
    here = [each for each in sat if each.paper == paper]
    items = [
        _item(question, [_answer(each.records.get(name), each.turns.get(name, ())) for each in here])
        for name, question in questions.items()
    ]
    return PackedPaper(
        name=".".join(paper),
        benchmark=paper[0],
        language=paper[1],
        n=len(items),
        models=tuple(each.sitting.model for each in here),
        tracks=tuple(dict.fromkeys(track for each in here for track in each.sitting.settings["tracks"])),
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
        "turns": [{"order": turn.order, "verdicts": _verdicts(turn)} for turn in turns] or None,
    }
    return {
        **{name: value for name, value in values.items() if value is not None},
        "verdicts": _verdicts(record),
    }


def _verdicts(record: Record) -> dict[str, dict[str, Any]]:
    """Each track's verdict with its main metric's outcome as "correct".

    An empty response that the published protocol picked a choice for is marked `"answered": False`.
    """
    found = {}
    for track, values in record.verdicts.items():
        verdict = verdict_of(track, values)
        found[track] = values | {"correct": bool(verdict.correct)}
        if isinstance(verdict, LegacyVerdict) and not verdict.answered:
            found[track] |= {"answered": False, "how": verdict.how}
    return found
