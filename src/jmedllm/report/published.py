"""Published scores for comparison."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jmedllm.evaluation.question import Language
from jmedllm.files import read_json

SCORER, METRIC = "legacy", "gestalt_match"
"""Settings of all published scores: zero-shot, greedy, choices not shuffled."""


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """One published score. All values are shares from 0 to 1; the number of items is not known.

    Attributes:
        contaminated: whether the model was trained on the questions of this test.
        note: further remarks; may be empty.
        floor: score of an empty answer on this set, measured with jmedllm; None if not measured.
        ceiling: score of the right answers, likewise.
    """

    model: str
    benchmark: str
    language: Language
    value: float
    contaminated: bool
    note: str
    floor: float | None
    ceiling: float | None


def published_scores(benchmark: str, language: Language) -> list[PublishedScore]:
    """Return all published scores on one benchmark in one language, best first; most benchmarks have none.

    They are comparable only with scores by `SCORER` and `METRIC`.
    """
    content = _content()
    bounds = {(s["benchmark"], s["language"]): (s["floor"], s["ceiling"]) for s in content["sets"]}
    floor, ceiling = bounds.get((benchmark, language), (None, None))
    scores = [
        PublishedScore(
            model=row["model"],
            benchmark=benchmark,
            language=language,
            value=row["percent"] / 100,
            contaminated=row["contaminated"],
            note=row["note"],
            floor=floor,
            ceiling=ceiling,
        )
        for row in content["rows"]
        if (row["benchmark"], row["language"]) == (benchmark, language)
    ]
    return sorted(scores, key=lambda score: score.value, reverse=True)


def source() -> str:
    """Return the source of the published scores in one sentence."""
    return str(_content()["source"])


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = read_json(Path(__file__).with_name("published.json"))
    return content
