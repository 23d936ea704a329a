"""What went into a corpus, what came out, and what was removed: the reports of its parts, summed up."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jmedllm.corpus.pipeline.counts import Tally
from jmedllm.corpus.pipeline.steps import WorkDir
from jmedllm.files import read_json

EXAMPLES = 20
"""Removed pieces of each kind that are shown."""

UNREAD = 1000
"""Unread files and lines that are named; all are counted."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A corpus as its corpus.json tells it.

    Attributes:
        identity: hash of all that the corpus depends on.
        version: of jmedllm.
        inputs: SHA-256 of each file that was read.
        tokenizer: the file that tokens were counted with; None where none were.
        questions: exam items that were searched for, by benchmark and language.
        files: SHA-256 of each file of documents, in order.
        counts: for each step what came out of it, in rows of step, source, language, licence, documents,
            characters, tokens.
        skipped: how many files below the inputs were not read, by ending and reason.
        unread: how many files, or lines of them, were read in vain.
        unread_named: the first of them, each with the reason.
        cleaning: for each rule the pieces it took out or changed, their characters, and examples with places.
        emptied: documents of which cleaning left nothing.
        duplicates: documents left out that are the same as an earlier one ("exact") or nearly ("near").
        duplicates_named: the first of them, each with the document it repeats and their similarity.
        leaked: for each benchmark the items that were found and the places they were found in.
        leaked_named: the first places, each with the item and the words that give it away.
    """

    identity: str
    version: str
    inputs: dict[str, str]
    tokenizer: str | None
    questions: dict[str, int]
    files: dict[str, str]
    counts: list[list[Any]]
    skipped: dict[str, int]
    unread: int
    unread_named: list[list[str]]
    cleaning: dict[str, dict[str, Any]]
    emptied: int
    duplicates: dict[str, int]
    duplicates_named: list[list[Any]]
    leaked: dict[str, dict[str, int]]
    leaked_named: list[list[str]]

    @property
    def tally(self) -> Tally:
        """The counts, to be summed."""
        tally = Tally()
        tally.merge(self.counts)
        return tally


def gather(workshop: WorkDir, numbers: Sequence[int]) -> dict[str, Any]:
    """Sum up the reports of finished parts: all that a Summary says of them."""
    tally, unread, emptied = Tally(), list[list[str]](), 0
    cleaning, items = dict[str, dict[str, Any]](), dict[str, set[str]]()
    duplicates, places = Counter({"exact": 0, "near": 0}), Counter[str]()
    repeated, given_away = list[list[Any]](), list[list[str]]()
    for number in numbers:
        first = read_json(workshop.file(number, "cleaned.json"))
        last = read_json(workshop.file(number, "finished.json"))
        tally.merge([*first["counts"], *last["counts"]])
        unread += first["unread"]
        emptied += len(first["emptied"])
        for rule, done in first["cleaning"].items():
            whole = cleaning.setdefault(rule, {"pieces": 0, "characters": 0, "examples": []})
            whole["pieces"] += done["pieces"]
            whole["characters"] += done["characters"]
            whole["examples"] = (whole["examples"] + done["examples"])[:EXAMPLES]
        for each in read_json(workshop.file(number, "duplicates.json")).values():
            duplicates["exact" if each["similarity"] == 1 else "near"] += 1
            repeated.append([each["where"], each["of"], each["similarity"]])
        for stretch in last["leaked"]:
            for hit in stretch["questions"]:
                places[hit["benchmark"]] += 1
                items.setdefault(hit["benchmark"], set()).add(hit["question"])
                given_away.append([stretch["where"], f"{hit['benchmark']} {hit['question']}", hit["text"]])
    return {
        "counts": tally.rows(),
        "unread": len(unread),
        "unread_named": unread[:UNREAD],
        "cleaning": dict(sorted(cleaning.items())),
        "emptied": emptied,
        "duplicates": dict(duplicates),
        "duplicates_named": repeated[:EXAMPLES],
        "leaked": {name: {"items": len(items[name]), "places": places[name]} for name in sorted(items)},
        "leaked_named": given_away[:EXAMPLES],
    }
