"""Case items without pictures of the Japanese medical licence exams 112 to 119 (2018 to 2025).

They are the items from which MedRECT's Japanese texts were made, as its repository has them: 1,183 items that describe
a patient. Those of the 117th and 118th exam are in no other benchmark here; the others are also in IgakuQA or
IgakuQA119, where serial items (連問) do not always have the text that they share.
"""

from pathlib import Path

from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.benchmarks.licence_exam import EITHER, exam_flags, parse_identity, pass_marks, points
from jmedllm.evaluation.benchmarks.rows import InputRow, data_file, json_rows
from jmedllm.evaluation.question import Language, Question, label

EXAMS = range(112, 120)
FIRST_YEAR = 1906
"""The exam of 2018 is the 112th."""

FILE = "medrect/jmle-2018-2025-source-questions.json"
COUNTS = {2018: 139, 2019: 154, 2020: 148, 2021: 153, 2022: 146, 2023: 130, 2024: 157, 2025: 156}


def read(data: Path, language: Language, split: str) -> list[Question]:
    """Read all items ("test"), or those of one year ("2023"), in the order of the exams.

    Raises:
        InputError: a record is invalid.
    """
    rows = json_rows(data_file(data, FILE, "medrect"))
    wanted = [(place, row) for row in rows if split in ("test", str((place := _place(row))[0] + FIRST_YEAR))]
    return [_question(row, place) for place, row in sorted(wanted, key=lambda each: each[0])]


def _place(row: InputRow) -> tuple[int, str, int]:
    try:
        return parse_identity(row.text("id"))
    except ValueError as error:
        raise row.wrong("id", 'exam, section and number such as "117A1"') from error


def _question(row: InputRow, place: tuple[int, str, int]) -> Question:
    identity, choices = row.text("id"), _choices(row)
    letters = [row.choice("answer", letter, len(choices)) for letter in row.texts("answer")]
    golds = [frozenset({letter}) for letter in letters] if identity in EITHER else [frozenset(letters)]
    if not letters:
        raise row.wrong("answer", "at least one letter")
    return Question(
        id=identity,
        benchmark="jmle-cases",
        language="ja",
        stem=row.text("question"),
        choices=choices,
        gold=golds[0],
        also_right=tuple(golds[1:]),
        # Checked on all items: the question asks for as many choices as the gold has.
        select=len(golds[0]),
        points=points(identity),
        flags=exam_flags(place[1], image=False),
    )


def _choices(row: InputRow) -> tuple[str, ...]:
    """Texts of `choices`, an object with the keys a, b, c, ...; the letters if all texts are empty.

    The choices of 113D25 and 113E46 are rows of a table in the question; IgakuQA has letters for them too.
    """
    choices = row.record.get("choices")
    texts = list(choices.values()) if isinstance(choices, dict) else []
    letters = [label(index) for index in range(len(texts))]
    if len(texts) < 2 or list(choices or ()) != letters or not all(isinstance(text, str) for text in texts):
        raise row.wrong("choices", 'an object of texts such as {"a": "...", "b": "..."}')
    if not any(texts):
        return tuple(letters)
    if not all(texts):
        raise row.wrong("choices", "texts that are not empty")
    return tuple(texts)


BENCHMARK = Benchmark(
    name="jmle-cases",
    title="Case items of the Japanese medical licence exams 2018-2025 (112th to 119th), from MedRECT",
    licence="CC BY 4.0",
    sources={"ja": "medrect"},
    expected_counts={("ja", "test"): 1183, **{("ja", str(year)): count for year, count in COUNTS.items()}},
    load=read,
    default_selection="graded",
    pass_marks=pass_marks(EXAMS, prohibited_known=False),
)
