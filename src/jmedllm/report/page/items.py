"""Pack all items with the answers of every model for the item browser of the page.

Each task is one gzipped JSON list in base64, because plain JSON of 20,000 questions and answers would be too large.
"""

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jmedllm.evaluation.calibration import probabilities
from jmedllm.evaluation.question import Question
from jmedllm.files import to_json
from jmedllm.models.backends.top_logprobs import UNLISTED
from jmedllm.report.collect import CollectedResult
from jmedllm.report.compare import published_last
from jmedllm.report.questions import TaskQuestions

LONGEST = 20_000
"""Maximum number of characters of a thought on the page. Models in a loop write more."""


@dataclass(frozen=True, slots=True)
class PackedTask:
    """Items of one task.

    Attributes:
        name: name of the task, such as "igakuqa.ja".
        models: models with results, in the order of each item's answers.
        scorers: scorers of these models.
        packed: base64 of gzip of a JSON list of items, see `_item`.
    """

    name: str
    benchmark: str
    language: str
    n: int
    models: tuple[str, ...]
    scorers: tuple[str, ...]
    packed: str


def pack(collected: Sequence[CollectedResult], questions: TaskQuestions) -> list[PackedTask]:
    """Pack each task with the answers of all models."""
    return [_pack_task(task, by_id, collected) for task, by_id in questions.items()]


def _pack_task(
    task: tuple[str, str], questions: Mapping[str, Question], collected: Sequence[CollectedResult]
) -> PackedTask:
    here = [each for each in collected if each.task == task]
    items = [
        _item(
            question,
            [_answer(id, each) for each in here],
        )
        for id, question in questions.items()
    ]
    return PackedTask(
        name=".".join(task),
        benchmark=task[0],
        language=task[1],
        n=len(items),
        models=tuple(each.result.model for each in here),
        scorers=tuple(published_last(scorer for each in here for scorer in each.result.settings["scorers"])),
        # No time stamp, so that the same results give the same page.
        packed=base64.b64encode(gzip.compress(to_json(items).encode(), mtime=0)).decode("ascii"),
    )


def _item(question: Question, answers: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """Convert a question for the page, without empty values."""
    values = {
        "gold": sorted(question.gold),
        "also": [sorted(answer) for answer in question.also_right],
        "number": question.number,
        "reference": question.reference,
        "rubric": question.rubric,
        "subject": question.subject,
        "flags": sorted(question.flags - ({"image"} if question.images else set())),
        "images": len(question.images) or None,
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


def shortened(text: str) -> str:
    """Return a text without its middle if it is longer than `LONGEST`, and say how much is left out."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]}\n\n[... {len(text) - LONGEST:,} characters are left out here ...]\n\n{text[-half:]}"


def _answer(id: str, collected: CollectedResult) -> dict[str, Any] | None:
    item = collected.items.get(id)
    if item is None:
        return None
    known = item.log_probs is not None and UNLISTED not in item.log_probs
    shares = [round(p, 4) for p in probabilities(item.log_probs or ())] if known else None
    values = {
        "response": item.response,
        "truncated": item.truncated or None,
        "reasoning": None if item.reasoning is None else shortened(item.reasoning),
        "reasoningTokens": item.reasoning_tokens,
        "thoughtCut": item.thought_cut or None,
        "forced": item.forced or None,
        "probabilities": shares,
        "order": None if list(item.order) == sorted(item.order) else item.order,
        "rotations": [{"order": each.order, "scores": each.scores} for each in collected.rotated.get(id, ())] or None,
        "samples": [
            {"scores": each.scores, "truncated": each.truncated or None} for each in collected.sampled.get(id, ())
        ]
        or None,
    }
    return {**{name: value for name, value in values.items() if value is not None}, "scores": item.scores}
