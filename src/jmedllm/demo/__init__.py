"""Data of the embedded demo: real medical facts in two languages, with templates of statements and questions.

Stage 2 asks for half of the facts. Only the benchmark asks for the other half, which the model must have learned from
the corpus. `corpus/demo.py` states the facts, and `evaluation/benchmarks/demo.py` asks for them.
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
    in_test: bool


@cache
def facts() -> tuple[Fact, ...]:
    """Return all facts; in each category every other one, in a fixed random order, is reserved for the test split."""
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
            in_test=place % 2 == 1,
        )
        for category, members in by_category.items()
        for place, (name, row) in enumerate(Random(category).sample(members, len(members)))
    )


@cache
def relations() -> dict[str, dict[str, dict[str, list[str]]]]:
    """Return the templates of `statements` and `questions` for each category and language."""
    found: dict[str, dict[str, dict[str, list[str]]]] = yaml.safe_load(_read("relations.yaml"))
    return found


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
