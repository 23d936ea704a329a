"""IgakuQA: Japanese medical licence exams 112 to 116 (2018 to 2022), all 2,000 items, and their translation."""

import re
import unicodedata
from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.benchmarks.licence_exam import SECTIONS, exam_flags, parse_identity, pass_marks
from jmedllm.evaluation.benchmarks.rows import InputRow, data_file, jsonl_rows
from jmedllm.evaluation.question import Flag, Language, Question, canonical_number

EXAMS = range(112, 117)

EVERY_ANSWER_RIGHT = frozenset({"116A71"})
"""The ministry accepted every answer afterwards; the data still have one letter and one point."""

NUMBERS = {
    # The answer sheet is a row of digit boxes. The data have the digits, without what is printed on the sheet.
    "114C75": ("100", "10.0"),  # 解答：①②.③
    "114F75": ("130", "1130"),  # 解答：1, ①②③ kcal: the leading 1 was printed
    "116B50": ("21", "2.1"),  # 解答：①.②
    "116F74": ("04", "0.4"),  # 解答：①.②
}
"""Numeric gold in the data → its meaning in the exam."""

SHARES_MISPRINTED = frozenset({"113A14", "113D75", "114B4", "116B33"})
"""One percentage of examinees is over 100 ("1701.0"), so all percentages of the item are left out. Other items, such
as 112B21 (2.0, 0.3, 0.3, 0.2, 0.3), seem to have lost a digit; they are read as they are."""

FIELDS: dict[Language, tuple[str, str]] = {
    "ja": ("problem_text", "choices"),
    "en": ("problem_text_en", "choices_en"),
}


def read(data: Path, language: Language, split: str) -> list[Question]:
    """Read all items of all five exams; the one split is "test".

    The English text is in the same line of `*_translate.jsonl`. All other fields (gold, points, `image`, metadata)
    come from the Japanese record in both languages.
    """
    return [
        question
        for exam in EXAMS
        for section in SECTIONS
        for question in _section(data, f"igakuqa/data/{exam + 1906}/{exam}-{section}", language)
    ]


def _section(data: Path, stem: str, language: Language) -> list[Question]:
    items = list(jsonl_rows(data_file(data, f"{stem}.jsonl", "igakuqa")))
    facts = _same_items(items, data_file(data, f"{stem}_metadata.jsonl", "igakuqa"))
    wordings = items
    if language == "en":
        wordings = _same_items(items, data_file(data, f"{stem}_translate.jsonl", "igakuqa"))
    return [_question(*three, language) for three in zip(items, wordings, facts, strict=True)]


def _same_items(items: list[InputRow], path: Path) -> list[InputRow]:
    """Read a companion file; its lines must have the same items in the same order."""
    companions = list(jsonl_rows(path))
    for item, companion in zip(items, companions, strict=False):
        if companion.text("problem_id") != item.text("problem_id"):
            raise companion.wrong("problem_id", f'"{item.text("problem_id")}" as in {item.path.name}')
    if len(companions) != len(items):
        raise InputError(f"{path}: expected {len(items)} lines, one for each item, found {len(companions)}")
    return companions


def _question(item: InputRow, wording: InputRow, facts: InputRow, language: Language) -> Question:
    identity = item.text("problem_id")
    stem, choices = FIELDS[language]
    count = len(item.texts("choices"))
    if len(wording.texts(choices)) != count:
        raise wording.wrong(choices, f"{count} choices as in the Japanese record")
    golds = _golds(item, count) if count else [frozenset[int]()]
    return Question(
        id=identity,
        benchmark="igakuqa",
        language=language,
        stem=wording.text(stem),
        choices=wording.texts(choices),
        gold=golds[0],
        also_right=tuple(golds[1:]),
        number=None if count else _number(item, identity),
        # Checked on all 2,000 items: the stem asks for as many choices as the gold has.
        select=max(1, len(golds[0])),
        points=_points(item),
        subject=facts.text("category"),
        flags=_flags(item, identity),
        prohibited=_prohibited(facts, count),
        prohibited_plain=_prohibited_plain(facts, count),
        examinees=_examinees(facts, identity, count),
        examinees_right=_examinees_right(facts),
    )


def _golds(item: InputRow, count: int) -> list[frozenset[int]]:
    """Sets of choices that are right; the first is the main one. 112B30 has "a or d"."""
    letters = item.texts("answer")
    if len(letters) == 1 and " or " in letters[0]:
        return [frozenset({item.choice("answer", letter, count)}) for letter in letters[0].split(" or ")]
    if not letters:
        raise item.wrong("answer", "at least one letter")
    return [frozenset(item.choice("answer", letter, count) for letter in letters)]


def _number(item: InputRow, identity: str) -> str:
    answers = item.texts("answer")
    if len(answers) != 1:
        raise item.wrong("answer", "one number, since there are no choices")
    printed, meant = NUMBERS.get(identity, (answers[0], answers[0]))
    try:
        return canonical_number(meant if answers[0] == printed else answers[0])
    except ValueError as error:
        raise item.wrong("answer", "a number, since there are no choices") from error


def _points(item: InputRow) -> int:
    points = item.text("points")
    if not re.fullmatch("[0-9]", points):
        raise item.wrong("points", 'a digit in quotes such as "1"')
    return int(points)


def _flags(item: InputRow, identity: str) -> frozenset[Flag]:
    try:
        _, section, _ = parse_identity(identity)
    except ValueError as error:
        raise item.wrong("problem_id", 'exam, section and number such as "112A1"') from error
    flags = exam_flags(section, image=not item.boolean("text_only"))
    return flags | {"every_answer_right"} if identity in EVERY_ANSWER_RIGHT else flags


def _prohibited(facts: InputRow, count: int) -> frozenset[int]:
    # Untidy upstream: ["cde"], full-width ["ｂ"], ["d", " e"].
    letters = unicodedata.normalize("NFKC", "".join(facts.texts("kinki"))).replace(" ", "")
    return frozenset(facts.choice("kinki", letter, count) for letter in letters)


def _prohibited_plain(facts: InputRow, count: int) -> frozenset[int]:
    plain = [entry for entry in facts.texts("kinki") if len(entry) == 1 and entry.isascii()]
    return frozenset(facts.choice("kinki", letter, count) for letter in plain)


def _examinees(facts: InputRow, identity: str, count: int) -> tuple[float, ...]:
    """Percentage of examinees per choice; empty for numeric items and most items excluded from grading."""
    if identity in SHARES_MISPRINTED:
        return ()
    shares = tuple(_percentage(facts, "breakdown", text) for text in facts.texts("breakdown"))
    if len(shares) not in (0, count):
        raise facts.wrong("breakdown", f"{count} percentages, one for each choice, or none")
    return shares


def _examinees_right(facts: InputRow) -> float | None:
    """Percentage of examinees who were right; an empty text means that none was published."""
    text = facts.text("human_accuracy", may_be_empty=True)
    return _percentage(facts, "human_accuracy", text) if text else None


def _percentage(facts: InputRow, field: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or float(text) > 100:
        raise facts.wrong(field, 'percentages in quotes such as "39.3"')
    return float(text)


BENCHMARK = Benchmark(
    name="igakuqa",
    title="IgakuQA: Japanese medical licence exams 2018-2022",
    licence="none stated; exam text by the Japanese ministry (government terms, CC BY compatible)",
    sources={"ja": "igakuqa", "en": "igakuqa"},
    expected_counts={("ja", "test"): 2000, ("en", "test"): 2000},
    load=read,
    legacy_choices=5,
    pass_marks=pass_marks(EXAMS, prohibited_known=True),
)
