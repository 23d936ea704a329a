"""JMLE2026-Bench: the 120th Japanese medical licence exam (2026), all 400 items.

A text has its choices below the question, each on its own line behind a letter, or as the rows of a table. Serial
items (連問) have a `serial_group`: each item is asked alone, after the text that the group shares.
The answers are the dataset authors', not official ones.
"""

import re
import unicodedata
from pathlib import Path

from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.benchmarks.licence_exam import exam_flags, parse_identity, pass_marks, points
from jmedllm.evaluation.benchmarks.pictures import FOLDER, find_picture
from jmedllm.evaluation.benchmarks.rows import InputRow, data_file, json_rows
from jmedllm.evaluation.question import Language, Picture, Question, canonical_number, label

_NUMBER = re.compile(r"\s*[0-9０-９]{1,2}[\s\u3000]+")
_CHOICE = re.compile(r"[\s\u3000]*([a-jａ-ｊ])[\s\u3000]+(\S.*?)[\s\u3000]*")
_ROW = re.compile(r"[\s\u3000]*\|\s*([a-jａ-ｊ])\s*\|(.*\S.*)\|\s*")
_ANSWER_SHEET = re.compile(r"\n[\s\u3000]*①[①-⑨\s\u3000]*(?:\n[\s\u3000]*[0-9](?:[\s\u3000]+[0-9])*[\s\u3000]*)+\Z")
"""The columns of digits to be marked, below the form of the number ("解答：①．②③")."""


def read(data: Path, language: Language, split: str) -> list[Question]:
    """Read all items; the one split is "test". Pictures are read if the folder `images` is beside the file.

    Raises:
        InputError: a record is invalid, or the folder lacks a picture that a record names.
    """
    return [_question(row) for row in json_rows(data_file(data, "jmle2026/jmle2026_dataset.json", "jmle2026"))]


def _question(row: InputRow) -> Question:
    identity = row.text("question_id")
    try:
        _, section, _ = parse_identity(identity)
    except ValueError as error:
        raise row.wrong("question_id", 'exam, section and number such as "120A-1"') from error
    calculated = row.text("question_type") == "calculation"
    text = _NUMBER.sub("", row.text("question_text"), count=1)
    stem, choices = (_ANSWER_SHEET.sub("", text).strip(), ()) if calculated else _split(row, text)
    gold = frozenset(row.choice("answer", letter, len(choices)) for letter in row.texts("answer") if choices)
    select = row.integer("num_choices_to_select", 1)
    if choices and len(gold) != select:
        raise row.wrong("answer", f"{select} letters, as many as num_choices_to_select")
    return Question(
        id=identity,
        benchmark="jmle2026",
        language="ja",
        stem=_shared(row) + stem,
        choices=choices,
        gold=gold,
        number=_number(row) if calculated else None,
        select=select,
        points=points(identity),
        flags=exam_flags(section, image=row.boolean("requires_image")),
        images=_pictures(row),
    )


def _split(row: InputRow, text: str) -> tuple[str, tuple[str, ...]]:
    """Split a text into the question and its choices."""
    lines = text.split("\n")
    for pattern in (_CHOICE, _ROW):
        found = [(place, match) for place, line in enumerate(lines) if (match := pattern.fullmatch(line))]
        if not found:
            continue
        first = found[0][0]
        letters = [unicodedata.normalize("NFKC", match[1]) for _, match in found]
        others = [line for line in lines[first:] if line.strip() and not pattern.fullmatch(line)]
        if len(found) > 1 and not others and letters == [label(index) for index in range(len(found))]:
            choices = (re.sub(r"\s*\|\s*", " | ", match[2].strip()) for _, match in found)
            return "\n".join(lines[:first]).strip(), tuple(choices)
    raise row.wrong("question_text", "a question, and below it lines that begin with a, b, c, ...")


def _shared(row: InputRow) -> str:
    """Return the text that serial items share, with the space behind it; empty for other items."""
    if "serial_group" not in row.record:
        return ""
    group = row.record["serial_group"]
    shared = group.get("context_text") if isinstance(group, dict) else None
    if not isinstance(shared, str) or not shared.strip():
        raise row.wrong("serial_group", 'an object with the text "context_text"')
    return shared.strip() + "\n\n"


def _number(row: InputRow) -> str:
    answers = row.texts("answer")
    try:
        [answer] = answers
        return canonical_number(answer)
    except ValueError as error:
        raise row.wrong("answer", "one number, since the answer is calculated") from error


def _pictures(row: InputRow) -> tuple[Picture, ...]:
    names = row.texts("clinical_images")
    if not (row.path.parent / FOLDER).is_dir():
        return ()
    fix = f"copy all pictures into {FOLDER}, or move that folder away to ask without pictures"
    return tuple(find_picture(row, "clinical_images", name, fix) for name in names)


BENCHMARK = Benchmark(
    name="jmle2026",
    title="JMLE2026-Bench: Japanese medical licence exam 2026 (120th)",
    licence="CC BY 4.0",
    sources={"ja": "jmle2026"},
    expected_counts={("ja", "test"): 400},
    load=read,
    default_selection="graded",
    notes=("jmle2026: the answers are those of the authors of the dataset, not the ministry's.",),
    pass_marks=pass_marks([120], prohibited_known=False),
)
