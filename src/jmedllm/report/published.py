"""Scores that others published, to be shown beside ours."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jmedllm.evaluation.question import Language
from jmedllm.files import read_json

SCORER, METRIC = "legacy", "gestalt_match"
"""How every published score was measured: zero-shot, greedy, choices not shuffled."""


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """One published score. All values are shares from 0 to 1; the number of items is not known.

    Attributes:
        contaminated: the model was trained on the questions of this test.
        note: what else to know; may be empty.
        floor: score of an empty answer on this set, measured by us; None where it was not measured.
        ceiling: score of the right answer there, likewise.
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
    """All published scores on one benchmark in one language, best first; none for most benchmarks.

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
    """Where the published scores come from, in one sentence."""
    return str(_content()["source"])


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = read_json(Path(__file__).with_name("published.json"))
    return content
