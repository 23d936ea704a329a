"""IgakuQA119: the 119th Japanese medical licence exam (2025), all 400 items, as OCR read them.

The text is that of the files except for the items in `STEMS` and `CHOICES`. Serial items (連問) already have the text
that they share in front of each question.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.benchmarks.licence_exam import (
    EITHER,
    SECTIONS,
    exam_flags,
    parse_identity,
    pass_marks,
    points,
)
from jmedllm.evaluation.benchmarks.pictures import FOLDER, find_picture
from jmedllm.evaluation.benchmarks.rows import InputRow, data_file, headed_csv_rows, json_rows
from jmedllm.evaluation.question import Language, Picture, Question, canonical_number, label

STEMS = {
    # Missing in the files; as in the repository's later commit 7480d90.
    "119C18": "Which of the following diseases does NOT cause person-to-person transmission?",
}
CHOICES = {
    # The files merge two choices, or cut them in the wrong place. The texts are those of the copy in MedRECT's
    # repository; it lacks 119A22, 119C5 and 119C19, whose merged texts are split.
    "119A16": ("円錐角膜", "視神経萎縮", "水晶体混濁", "Kayser-Fleischer輪", "桜実紅斑〈cherry red spot〉"),
    "119A22": ("皮膚筋炎", "関節リウマチ", "全身性強皮症", "結節性多発動脈炎", "抗リン脂質抗体症候群"),
    "119A31": (
        "運動負荷心電図検査",
        "冠動脈CT",
        "心臓MRI",
        "心臓カテーテル検査",
        "薬物負荷心筋血流シンチグラフィ",
    ),
    "119C5": ("性的虐待", "経済的虐待", "身体的虐待", "心理的虐待", "ネグレクト"),
    "119C19": (
        "定期予防接種",
        "児童虐待に係る通告",
        "人工妊娠中絶の要件",
        "低出生体重児の届出",
        "就学時健康診断の実施",
    ),
    "119F42": (
        "食塩相当量の摂取は15gとする。",
        "総摂取エネルギー量は4,500kcalとする。",
        "脂質の摂取は総摂取エネルギー量の20~30%とする。",
        "蛋白質の摂取は総摂取エネルギー量の5~10%とする。",
        "炭水化物の摂取は総摂取エネルギー量の30~40%とする。",
    ),
}
COUNT = 5
"""Choices of each item that has any."""

_LABELLED = re.compile(r"[a-e]\.\s*(\S.*)", re.DOTALL)
_IN_STEM = re.compile(r"(.*?\S)\s+" + r"\s+".join(f"[{x}{x.upper()}]\\s*(\\S.*?)" for x in "abcde"), re.DOTALL)
"""A question with its choices behind it ("aアトロピン bジアゼパム ...")."""


def read(data: Path, language: Language, split: str) -> list[Question]:
    """Read all items; the one split is "test". Pictures are read if they are in `igakuqa119/images`.

    Raises:
        InputError: a record is invalid, or the answers are those of other items.
    """
    key = data_file(data, "igakuqa119/correct_answers.csv", "igakuqa119")
    answers = {row.text("問題番号"): row for row in headed_csv_rows(key, ("問題番号", "解答"))}
    files = [data_file(data, f"igakuqa119/questions/119{section}_json.json", "igakuqa119") for section in SECTIONS]
    questions = [_question(row, answers) for file in files for row in json_rows(file)]
    if others := answers.keys() - {question.id for question in questions}:
        raise InputError(
            f"{key}: has answers to unknown items ({', '.join(sorted(others)[:5])}); fetch the files again"
        )
    return questions


def _question(row: InputRow, answers: dict[str, InputRow]) -> Question:
    identity = row.text("number")
    try:
        _, section, _ = parse_identity(identity)
    except ValueError as error:
        raise row.wrong("number", 'exam, section and number such as "119A1"') from error
    if identity not in answers:
        raise row.wrong("number", "an item of correct_answers.csv")
    answer = answers[identity]
    stem, choices = _text(row, identity, chosen=answer.text("解答").isalpha())
    golds = _golds(answer, identity) if choices else [frozenset[int]()]
    image = row.boolean("has_image")
    return Question(
        id=identity,
        benchmark="igakuqa119",
        language="ja",
        stem=stem,
        choices=choices,
        gold=golds[0],
        also_right=tuple(golds[1:]),
        number=None if choices else _number(answer),
        # Checked on all items: the stem asks for as many choices as the gold has.
        select=max(1, len(golds[0])),
        points=points(identity),
        flags=exam_flags(section, image=image),
        images=tuple(_pictures(row, identity)) if image else (),
    )


def _text(row: InputRow, identity: str, *, chosen: bool) -> tuple[str, tuple[str, ...]]:
    """Return the question and its choices; without choices if the answer is not `chosen` among them."""
    stem = row.text("question", may_be_empty=identity in STEMS).strip() or STEMS.get(identity, "")
    listed = row.texts("choices")
    if not chosen:
        return stem, ()
    if not listed and (match := _IN_STEM.fullmatch(stem)):
        return match[1], tuple(choice.strip() for choice in match.groups()[1:])
    if identity in CHOICES:
        return stem, CHOICES[identity]
    found = [match for choice in listed if (match := _LABELLED.fullmatch(choice))]
    if [match[0][0] for match in found] != [label(index) for index in range(COUNT)]:
        raise row.wrong("choices", f'{COUNT} texts that begin with "a.", "b.", ...')
    return stem, tuple(match[1].strip() for match in found)


def _golds(answer: InputRow, identity: str) -> list[frozenset[int]]:
    """Sets of choices that are right; the first is the main one."""
    chosen = [answer.choice("解答", letter, COUNT) for letter in answer.text("解答")]
    return [frozenset({choice}) for choice in chosen] if identity in EITHER else [frozenset(chosen)]


def _number(answer: InputRow) -> str:
    try:
        return canonical_number(answer.text("解答"))
    except ValueError as error:
        raise answer.wrong("解答", "letters or a number") from error


def _pictures(row: InputRow, identity: str) -> Iterator[Picture]:
    """Yield the pictures "119A22.png" or "119A22-1.png", "119A22-2.png", ... as far as they are there."""
    folder = row.path.parent.parent / FOLDER
    if folder.is_dir():
        for file in sorted([*folder.glob(f"{identity}.*"), *folder.glob(f"{identity}-*.*")]):
            yield find_picture(row, "number", str(file), "fix its permissions")


BENCHMARK = Benchmark(
    name="igakuqa119",
    title="IgakuQA119: Japanese medical licence exam 2025 (119th)",
    licence="Apache-2.0; exam text by the Japanese ministry (government terms, CC BY compatible)",
    sources={"ja": "igakuqa119"},
    expected_counts={("ja", "test"): 400},
    load=read,
    default_selection="graded",
    pass_marks=pass_marks([119], prohibited_known=False),
    notes=(
        "igakuqa119: 9 items are corrected, because the files lack a question (119C18), cut choices in the wrong "
        "place (119A16, 119A22, 119A31, 119C5, 119C19, 119F42) or have them in the question (119E45, 119E48).",
    ),
)
