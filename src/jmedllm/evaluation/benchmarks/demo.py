"""Questions of the embedded demo.

All choices of a question are answers of the same category and the same half of the facts. So no choice of a test
question was ever an answer in stage 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from jmedllm.demo import Fact, facts, relations
from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.question import Language, Question

CHOICES = 5
DRAWS = 4
"""Number of times each training question is asked, each time with other choices."""

EXAM_PHRASINGS = 2
"""Number of a category's phrasings, its last ones, that only the test split uses."""

_BLANK: dict[Language, str] = {"ja": "これ", "en": "something"}


def questions(split: str, language: Language, *, blanked: bool = False) -> list[Question]:
    """Make the questions of one split: "train" asks each fact in every training phrasing, "test" once.

    The right choice is equally often in each position.

    Args:
        blanked: replace the subject by a word without meaning. This control shows whether the choices alone give
            the answer away.
    """
    in_test = split == "test"
    items = [item for fact in facts() if fact.in_test is in_test for item in _items(fact, language)]
    order = Random(f"{split} {language}")
    places = [number % CHOICES for number in range(len(items))]
    order.shuffle(places)
    return [
        _question(item, language, place, order, blanked=blanked) for item, place in zip(items, places, strict=True)
    ]


@dataclass(frozen=True)
class _Item:
    """A question about a fact before its choices are drawn."""

    id: str
    fact: Fact
    phrasing: str


def _items(fact: Fact, language: Language) -> list[_Item]:
    phrasings = relations()[fact.category][language]["questions"]
    if fact.in_test:
        number = len(phrasings) - 1 - int(fact.id[-3:]) % EXAM_PHRASINGS
        return [_Item(f"{fact.id}.{number}", fact, phrasings[number])]
    trained = enumerate(phrasings[:-EXAM_PHRASINGS])
    return [_Item(f"{fact.id}.{number}.{draw}", fact, text) for number, text in trained for draw in range(DRAWS)]


def _question(item: _Item, language: Language, place: int, order: Random, *, blanked: bool) -> Question:
    fact = item.fact
    choices = [other.answer[language] for other in order.sample(_others(fact), CHOICES - 1)]
    choices.insert(place, fact.answer[language])
    subject = _BLANK[language] if blanked else fact.subject[language]
    return Question(
        id=item.id,
        benchmark="demo-blanked" if blanked else "demo",
        language=language,
        stem=item.phrasing.format(subject=subject),
        choices=tuple(choices),
        gold=frozenset({place}),
        subject=fact.category,
    )


def _others(fact: Fact) -> list[Fact]:
    """Return the facts whose answers may be choices beside this fact's answer.

    In the test split these are the facts at four fixed distances, the same in both languages. So the test split offers
    every answer equally often: five times, once as the right one. With free draws, the answer offered least often was
    right in 31 % of the questions.
    """
    alike = [other for other in facts() if (other.category, other.in_test) == (fact.category, fact.in_test)]
    if not fact.in_test:
        return [other for other in alike if other is not fact]
    distances = Random(fact.category).sample(range(1, len(alike)), CHOICES - 1)
    return [alike[(alike.index(fact) + distance) % len(alike)] for distance in distances]


SOURCES: Mapping[Language, None] = {"ja": None, "en": None}
EXPECTED_COUNTS: Mapping[tuple[Language, str], int] = {
    ("ja", "test"): 143,
    ("en", "test"): 143,
    ("ja", "train"): 2288,
    ("en", "train"): 2288,
}


def _read(data: Path, language: Language, split: str, *, blanked: bool) -> list[Question]:
    return questions(split, language, blanked=blanked)


DEMO = Benchmark(
    name="demo",
    title="questions on the embedded facts",
    licence="Apache-2.0",
    sources=SOURCES,
    expected_counts=EXPECTED_COUNTS,
    load=partial(_read, blanked=False),
    synthetic=True,
)
BLANKED = Benchmark(
    name="demo-blanked",
    title="control: the same questions without their subject",
    licence="Apache-2.0",
    sources=SOURCES,
    expected_counts=EXPECTED_COUNTS,
    load=partial(_read, blanked=True),
    synthetic=True,
)
