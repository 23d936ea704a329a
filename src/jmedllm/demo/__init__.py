"""The embedded default: real medical facts, a corpus that states them, and questions about them.

Half of the facts are asked in stage 2, the other half only in the exam: there the model must answer from
what it read in the corpus. All choices of a question are answers of the same category and the same half,
so that no choice of an exam question was ever an answer in stage 2.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random

import yaml

from jmedllm.corpus.read import Document
from jmedllm.exam.question import Language, Question

CHOICES = 5
DRAWS = 4
"""How often each training question is asked, each time among other choices."""

EXAM_PHRASINGS = 2
"""How many of a category's phrasings, its last, stand in the exam alone."""

_BLANK: dict[Language, str] = {"ja": "これ", "en": "something"}


@dataclass(frozen=True, slots=True)
class Fact:
    """One relation between a subject and an answer that is unique among all facts."""

    id: str
    category: str
    subject: dict[Language, str]
    answer: dict[Language, str]
    in_exam: bool


@cache
def facts() -> tuple[Fact, ...]:
    """All facts; of each category every other one, in a fixed random order, is kept for the exam."""
    rows = [json.loads(line) for line in _read("facts.jsonl").splitlines()]
    by_category = defaultdict(list)
    for number, row in enumerate(rows):
        by_category[row["category"]].append((f"{row['category']}-{number:03d}", row))
    return tuple(
        Fact(
            id=name,
            category=category,
            subject={"ja": row["subject_ja"], "en": row["subject_en"]},
            answer={"ja": row["answer_ja"], "en": row["answer_en"]},
            in_exam=place % 2 == 1,
        )
        for category, members in by_category.items()
        for place, (name, row) in enumerate(Random(category).sample(members, len(members)))
    )


def documents(*, exam_facts: bool = True) -> Iterator[Document]:
    """Each fact stated once by every template of its category, in both languages.

    Args:
        exam_facts: False leaves out all statements of the facts that the exam asks about: the control
            that shows whether exam answers come from the corpus.
    """
    for fact in facts():
        if exam_facts or not fact.in_exam:
            for language in fact.answer:
                for number, template in enumerate(_relations()[fact.category][language]["statements"]):
                    text = template.format(subject=fact.subject[language], answer=fact.answer[language])
                    yield Document(f"{fact.id}.{language}.{number}", text, language, "jmedllm demo", "Apache-2.0")


def questions(split: str, language: Language, *, blanked: bool = False) -> list[Question]:
    """Questions of one split: "train" asks each of its facts in every training phrasing, "test" once.

    The right choice stands equally often in every place.

    Args:
        blanked: replace the subject by a pronoun: the control that shows whether the choices alone
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
    phrasings = _relations()[fact.category][language]["questions"]
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


@cache
def _relations() -> dict[str, dict[Language, dict[str, list[str]]]]:
    relations: dict[str, dict[Language, dict[str, list[str]]]] = yaml.safe_load(_read("relations.yaml"))
    return relations


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
