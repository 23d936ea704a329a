"""The embedded demo's questions.

All choices of a question are answers of the same category and the same half of the facts, so that no choice
of an exam question was ever an answer in stage 2.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random

from jmedllm.demo import Fact, facts, relations
from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.question import Language, Question

CHOICES = 5
DRAWS = 4
"""How often each training question is asked, each time among other choices."""

EXAM_PHRASINGS = 2
"""How many of a category's phrasings, its last, stand in the exam alone."""

_BLANK: dict[Language, str] = {"ja": "これ", "en": "something"}


def questions(split: str, language: Language, *, blanked: bool = False) -> list[Question]:
    """Questions of one split: "train" asks each of its facts in every training phrasing, "test" once.

    The right choice stands equally often in every place.

    Args:
        blanked: replace the subject by a word that says nothing: the control that shows whether the choices alone
            give the answer away.
    """
    exam = split == "test"
    asked = [
        (fact, name, phrasing)
        for fact in facts()
        if fact.in_exam is exam
        for name, phrasing in _phrasings(fact, language)
    ]
    order = Random(f"{split} {language}")
    places = [number % CHOICES for number in range(len(asked))]
    order.shuffle(places)
    return [
        _question(fact, name, phrasing, language, place, order, blanked)
        for (fact, name, phrasing), place in zip(asked, places, strict=True)
    ]


def _phrasings(fact: Fact, language: Language) -> list[tuple[str, str]]:
    """How a fact is asked about: the id of each question and its phrasing."""
    phrasings = relations()[fact.category][language]["questions"]
    if fact.in_exam:
        number = len(phrasings) - 1 - int(fact.id[-3:]) % EXAM_PHRASINGS
        return [(f"{fact.id}.{number}", phrasings[number])]
    trained = enumerate(phrasings[:-EXAM_PHRASINGS])
    return [(f"{fact.id}.{number}.{draw}", text) for number, text in trained for draw in range(DRAWS)]


def _question(
    fact: Fact, name: str, phrasing: str, language: Language, place: int, order: Random, blanked: bool
) -> Question:
    choices = [other.answer[language] for other in order.sample(_others(fact), CHOICES - 1)]
    choices.insert(place, fact.answer[language])
    subject = _BLANK[language] if blanked else fact.subject[language]
    return Question(
        id=name,
        benchmark="demo-blanked" if blanked else "demo",
        language=language,
        stem=phrasing.format(subject=subject),
        choices=tuple(choices),
        gold=frozenset({place}),
        subject=fact.category,
    )


def _others(fact: Fact) -> list[Fact]:
    """The facts whose answers may stand beside this one's.

    In the exam they are those at four fixed distances, the same in both languages. So every answer is offered
    equally often over the whole exam: five times, once as the right one. Freely drawn, the one offered least
    was right in 31 % of the questions.
    """
    alike = [other for other in facts() if (other.category, other.in_exam) == (fact.category, fact.in_exam)]
    if not fact.in_exam:
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
