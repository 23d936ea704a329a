"""Scorer `entities`: the expressions that a response lists, compared with those of the reference.

It applies to questions whose `reference` is a list of texts as JSON, such as those of MRNER. Its metrics are means
over the items, as published: F1 of exact matches, and F1 of partial matches, where one text contains the other. The
code of JMED-LLM computes something else for partial matches, which `published_partial_f1` reproduces: if any
expression matches exactly, all of the reference's count as found, else none. It can exceed 1.
"""

import ast
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers.base import ModelOutput, Scorer, text_for_the_reader
from jmedllm.evaluation.statistics import Metric, Score, bootstrap_mean, samples_of, score

_QUOTED = r"""\"(?:[^"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'"""
_LIST = re.compile(rf"\[(?:{_QUOTED}|[^\[\]\"'])*\]")
"""Brackets in quoted texts are part of them."""
_BULLET = re.compile(r"^\s*(?:[-*•・①-⑳]|\d{1,2}[.)．）](?!\d))\s*(\S.*?)\s*$", re.MULTILINE)
_COMMA = re.compile(r"[、，]|,(?!\d{3})")
_NO_EXPRESSION = ("。", ":", "：", "```")
_NOTHING = re.compile(r"\s*(?:該当)?(?:する表現は)?(?:なし|ありません|ない|none|nothing)[。.]?\s*", re.IGNORECASE)
_AROUND = "「」『』\"'“”`*。 \u3000\n"
LONGEST_LINE = 200
"""Characters of a line that may be a list separated by commas."""


@dataclass(frozen=True, slots=True)
class EntitiesItemScore:
    """The agreement of one list with the reference.

    Attributes:
        exact: F1 of exact matches.
        partial: F1 of matches in which one text contains the other, after NFKC normalization.
        published_partial: what JMED-LLM's code computes for partial matches; may exceed 1.
        listed: number of different expressions in the response.
        how: how the list was read, or why there is none.
    """

    exact: float
    partial: float
    published_partial: float
    listed: int
    how: str

    @property
    def value(self) -> float:
        """F1 of exact matches."""
        return self.exact

    @property
    def chosen(self) -> tuple[int, ...]:
        """Empty, because there are no choices."""
        return ()


def reference_list(question: Question) -> list[str]:
    """Return the texts of a reference that is a JSON list of texts; empty for any other."""
    try:
        values = json.loads(question.reference or "")
    except ValueError:
        return []
    is_list = isinstance(values, list) and all(isinstance(value, str) and value for value in values)
    return values if is_list else []


def applies(question: Question) -> bool:
    """Return whether this scorer can score `question`."""
    return bool(reference_list(question))


def read_list(reply: str) -> tuple[list[str], str] | None:
    """Read the list in a reply without its thought, and how it was found; None if there is no list.

    In this order: the last list as JSON or Python writes it, lines with bullets or numbers, a line with commas, and
    several lines. Lines that end like a sentence or a heading are no part of a list.
    """
    if (values := _written_list(reply)) is not None:
        return values, "list"
    if lines := [line.strip(_AROUND) for line in _BULLET.findall(reply)]:
        return [line for line in lines if line], "bullets"
    if _NOTHING.fullmatch(reply):
        return [], "nothing"
    lines = [line for each in reply.split("\n") if (line := each.strip()) and not line.endswith(_NO_EXPRESSION)]
    if len(lines) > 1 and (not _COMMA.search(lines[-1]) or any(map(_COMMA.search, lines[:-1]))):
        parts, how = lines, "lines"
    else:
        last = re.sub(r"^[^:：]{0,20}[:：]", "", lines[-1]) if lines else ""
        parts, how = _COMMA.split(re.sub(r"^\s*\[(.*)\]\s*$", r"\1", last)), "commas"
    found = [part for each in parts if (part := each.strip(_AROUND))]
    is_other = any("。" in each or len(each) > LONGEST_LINE for each in found)
    is_other |= any(line.startswith(("{", "[{")) for line in lines)
    return (found, how) if found and not is_other else None


def _written_list(reply: str) -> list[str] | None:
    """Return the last list of texts, or of objects with one text each, that a reply writes as JSON or Python."""
    for match in reversed(list(_LIST.finditer(reply))):
        for parse in (json.loads, ast.literal_eval):
            try:
                values = [_only(value) for value in parse(match[0])]
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            texts = [value for value in values if isinstance(value, str)]
            if len(texts) == len(values):
                return [text for text in texts if text.strip()]
    return None


def _only(value: object) -> object:
    """Return the only value of an object with one key; any other value as it is."""
    return next(iter(value.values())) if isinstance(value, dict) and len(value) == 1 else value


def _f1(found: float, listed: float) -> float:
    """Compute F1 of recall `found` and precision `listed`."""
    return 2 * found * listed / (found + listed) if found + listed else 0.0


def exact_f1(gold: Collection[str], listed: Collection[str]) -> float:
    """Compute F1 of two sets of texts."""
    same = len({*gold} & {*listed})
    return _f1(same / len({*gold}), same / len({*listed})) if listed else 0.0


def partial_f1(gold: Collection[str], listed: Collection[str]) -> float:
    """Compute F1 of two sets of texts, where texts match if one contains the other."""
    ours, theirs = ({unicodedata.normalize("NFKC", text) for text in texts} for texts in (gold, listed))

    def matched(texts: set[str], others: set[str]) -> float:
        return sum(any(text in other or other in text for other in others) for text in texts) / len(texts)

    return _f1(matched(ours, theirs), matched(theirs, ours)) if theirs else 0.0


def published_partial_f1(gold: Collection[str], listed: Collection[str]) -> float:
    """Compute what JMED-LLM's code computes for partial matches."""
    if not {*gold} & {*listed}:
        return 0.0
    return _f1(1.0, len({*gold}) / len({*listed}))


def score_item(output: ModelOutput) -> EntitiesItemScore:
    """Score one model output."""
    text, missing = text_for_the_reader(output)
    if missing:
        return EntitiesItemScore(0.0, 0.0, 0.0, 0, missing)
    found = read_list(text)
    if found is None or (output.truncated and found[1] != "list"):
        return EntitiesItemScore(0.0, 0.0, 0.0, 0, "truncated" if output.truncated else "no list")
    (listed, how), gold = found, reference_list(output.presented.question)
    return EntitiesItemScore(
        exact=round(exact_f1(gold, listed), 6),
        partial=round(partial_f1(gold, listed), 6),
        published_partial=round(published_partial_f1(gold, listed), 6),
        listed=len({*listed}),
        how=how,
    )


_METRICS: dict[str, Callable[[EntitiesItemScore], float]] = {
    "exact_f1": lambda item_score: item_score.exact,
    "partial_f1": lambda item_score: item_score.partial,
}


def aggregate(questions: Sequence[Question], item_scores: Sequence[EntitiesItemScore]) -> list[Score]:
    """Compute the mean of each metric over the items."""
    none = sum(item_score.how in ("empty", "truncated", "no list") for item_score in item_scores)
    found = [
        score(Metric("entities", name, 0.0, 1.0, binary=False), questions, [*map(value, item_scores)], no_answer=none)
        for name, value in _METRICS.items()
    ]
    published = [item_score.published_partial for item_score in item_scores]
    means = np.reshape(published, (-1, samples_of(questions))).mean(axis=1)
    low, high = bootstrap_mean(means.tolist(), (0, 1))
    return [
        *found,
        Score(
            questions[0].benchmark, questions[0].language, "entities", "published_partial_f1", len(questions),
            sum(value == 1 for value in published), sum(published) / len(published), low, high, 0.0, 1.0, none,
            binary=False,
        ),
    ]  # fmt: skip


SCORER = Scorer(
    summary="compares lists of expressions",
    needs="response",
    applies=applies,
    score_item=score_item,
    item_score=EntitiesItemScore,
    aggregate=aggregate,
    binary=False,
)
