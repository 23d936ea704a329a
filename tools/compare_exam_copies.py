"""Compare licence questions that several benchmarks have, and print the table of docs/evaluation/benchmarks.md.

python3 tools/compare_exam_copies.py DATA
"""

import sys
import unicodedata
from collections import defaultdict
from pathlib import Path

from jmedllm.evaluation.benchmarks import load
from jmedllm.evaluation.question import Question, label

COPY, ORIGINALS = "jmle-cases", ("igakuqa", "igakuqa119")


def plain(text: str) -> str:
    """Keep letters and digits only, since copies differ in spaces, widths and punctuation."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


def answers(question: Question) -> list[str]:
    """Right answers as letters, such as ["a", "c"] for either."""
    golds = (question.gold, *question.also_right)
    return sorted("".join(label(index) for index in sorted(gold)) for gold in golds)


def kind(copy: Question, original: Question) -> list[str]:
    """Name the differences between two copies of an item; empty if there are none."""
    found = []
    if answers(copy) != answers(original):
        found.append("another answer")
    if [*map(plain, copy.choices)] != [*map(plain, original.choices)]:
        found.append("another choice")
    ours, theirs = plain(original.stem), plain(copy.stem)
    if ours != theirs and ours in theirs:
        found.append("the original lacks the text that serial items share, or a table")
    elif ours != theirs and theirs in ours:
        found.append("the original has more, mostly the heading of serial items")
    elif ours != theirs:
        found.append("other characters in the question")
    if "image" in original.flags:
        found.append("the original has a picture")
    if original.points == 0:
        found.append("taken out of grading")
    return found


def table(data: Path) -> str:
    """Return the table, with the items named where there are at most 20."""
    copies = {question.id: question for question in load(COPY, "ja", data)}
    rows = []
    for name in ORIGINALS:
        originals = {question.id: question for question in load(name, "ja", data)}
        both = [identity for identity in copies if identity in originals]
        kinds: dict[str, list[str]] = defaultdict(list)
        for identity in both:
            for difference in kind(copies[identity], originals[identity]) or ["none"]:
                kinds[difference].append(identity)
        rows.append(f"| `{name}` | items in both | {len(both)} | |")
        for difference in sorted(kinds, key=lambda each: (each != "none", -len(kinds[each]))):
            items = kinds[difference]
            named = ", ".join(items) if len(items) <= 20 else ""
            rows.append(f"| | {difference} | {len(items)} | {named} |")
    return "\n".join(["| compared with | difference | items | which |", "|---|---|---|---|", *rows])


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))
