"""The embedded default: real medical facts in two languages, and the wordings that state them and ask for them.

Half of the facts are asked in stage 2, the other half only in the exam: there the model must answer from
what it read in the corpus. `corpus/demo.py` states the facts, `evaluation/benchmarks/demo.py` asks for them.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random

import yaml


@dataclass(frozen=True, slots=True)
class Fact:
    """One relation between a subject and an answer that is unique among all facts."""

    id: str
    category: str
    subject: dict[str, str]
    answer: dict[str, str]
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


@cache
def relations() -> dict[str, dict[str, dict[str, list[str]]]]:
    """For each category and language its `statements` and its `questions`, as templates."""
    found: dict[str, dict[str, dict[str, list[str]]]] = yaml.safe_load(_read("relations.yaml"))
    return found


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
