"""Terminal tables fit 80 and 120 columns, and names are never broken."""

import io
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from test_table import result, score

from jmedllm.evaluation.calibration import Calibration
from jmedllm.evaluation.exam_years import ExamYear
from jmedllm.evaluation.human_baseline import BaselineGroup
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.rotations import Rotations
from jmedllm.evaluation.scorers.base import ExamOutcome
from jmedllm.evaluation.statistics import compare_pairs
from jmedllm.report import print_table
from jmedllm.report.card.scores import scores
from jmedllm.report.compare import Comparison, Side
from jmedllm.report.layout import Column, Grid, Line, Names, fit, shorten
from jmedllm.report.table import print_comparisons

WIDTHS = [80, 120]
LATIN = "abcdefgABCDEFG0123456789-._/@"
JAPANESE = "日本語医療大規模言語モデルパラメータ版第一二三"
MODELS = st.lists(
    st.one_of(
        st.text(LATIN, min_size=1, max_size=90),
        st.text(JAPANESE, min_size=1, max_size=45),
        st.text(LATIN + JAPANESE, min_size=1, max_size=45),
    ),
    min_size=1,
    max_size=5,
    unique=True,
)

OUTCOME = ExamOutcome(
    exam=112,
    year=2018,
    points=412,
    points_low=382,
    points_high=441,
    max_points=499,
    required=160,
    required_max=200,
    required_mark=160,
    general=214,
    general_max=299,
    general_mark=208,
    prohibited=2,
    prohibited_items=("112A16", "112D32"),
    passed=None,
    correct=331,
    n=400,
    image_correct=62,
    image_n=114,
)


def full(model: str, language: str) -> EvalResult:
    """A result with every kind of detail."""
    scores = (
        score("igakuqa", language, "legacy", "gestalt_match", 1450, 700, 0.1697, 0.9924),
        score("igakuqa", language, "likelihood", "accuracy", 1450, 720, 0.1841, 1.0),
    )
    return replace(
        result(model, *scores),
        exam_outcomes=(OUTCOME, replace(OUTCOME, exam=113, year=2019, passed=False)),
        calibration=Calibration(1690, 0.447, 1.084, ()),
        rotations=(Rotations("likelihood", 1988, 5, 0.306, 0.12, 0.1, 0.14, (0.771, -0.1, 0.0, 0.0, 0.0)),),
        human_baseline=(
            BaselineGroup("likelihood", "difficulty", "80-100 % right", 1401, 700, 0.5, 0.47, 0.53, 0.932),
            BaselineGroup("likelihood", "subject", "公衆衛生・医療統計・法医学", 270, 135, 0.5, 0.44, 0.56, 0.853),
        ),
        exam_years=(ExamYear("legacy", "116", 2022, 297, 61, 0.2054, 0.1633, 0.2551),),
        source={"data": "data", "released": "2024-09-19"},
        readings={"answer": {"label": 1721, "too few": 152, "refused": 115, "number": 12}},
    )


def compared(models: Sequence[str]) -> list[Comparison]:
    pair = compare_pairs([True] * 30 + [False] * 10, [True] * 38 + [False] * 2, binary=True)
    pairs = [(a, b) for a in models for b in models if a < b]
    sides = [("models", Side(a, "ja"), Side(b, "ja")) for a, b in pairs]
    sides += [("languages", Side(model, "ja"), Side(model, "en")) for model in models]
    return [Comparison(kind, "igakuqa", "likelihood", *both, pair) for kind, *both in sides]


def printed(models: Sequence[str], width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_table([full(model, language) for model in models for language in ("ja", "en")], console)
    console.print()
    print_comparisons(compared(models), console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
@given(models=MODELS)
@settings(max_examples=40, deadline=None)
def test_reports_fit(width: int, models: list[str]) -> None:
    lines = printed(models, width).splitlines()
    assert max(map(cell_len, lines)) <= width


def test_exams_are_printed_by_year_beside_the_release() -> None:
    row = r"116 2022 +297 +20\.5 +\[16\.3, 25\.5\] +before 2024-09-19"
    assert re.search(row, printed(["mine"], 120))
    card = scores([full("mine", "ja"), replace(full("other", "ja"), source={})], [])
    assert "| mine | igakuqa ja | 116 2022 | 297 | 20.5 | [16.3, 25.5] | before 2024-09-19 |" in card
    assert "| 412/499 | 382-441 | 160/160 | 214/208 | 2/3 | 62/114 | items missing |" in card
    assert "| other | igakuqa ja | 116 2022 | 297 | 20.5 | [16.3, 25.5] | release unknown |" in card


GRIDS = st.builds(
    lambda headings, captions: (headings, captions),
    st.lists(st.text(LATIN, min_size=1, max_size=12), min_size=0, max_size=9),
    st.lists(st.text(LATIN + JAPANESE + " ", max_size=30), min_size=1, max_size=3, unique=True),
)


@pytest.mark.parametrize("width", WIDTHS)
@given(models=MODELS, parts=GRIDS)
@settings(max_examples=150, deadline=None)
def test_names_stay_whole(width: int, models: list[str], parts: tuple[list[str], list[str]]) -> None:
    headings, captions = parts

    def build(names: Names) -> Grid:
        lines = tuple(Line(names[model], tuple(f"{len(h)}/400" for h in headings)) for model in models)
        return Grid("model", tuple(map(Column, headings)), tuple((caption, lines) for caption in captions))

    lines, legend = fit(build, models, width)
    texts = [line.plain for line in lines]
    assert max(map(cell_len, texts)) <= width
    shown = {name: short for short, name in legend.items()}
    assert set(shown) <= set(models) and len(legend) == len(shown)
    for model in models:
        name = shown.get(model, model)
        assert sum(name in text for text in texts) >= len(captions)
        assert len(name) >= min(len(model), 5)


@given(models=MODELS, limit=st.integers(12, 60))
def test_shortened_names_stay_distinct(models: list[str], limit: int) -> None:
    short = shorten(models, limit)
    assert len(set(short.values())) == len(models)
    assert all(cell_len(name) <= limit for name in short.values())
    assert all(name == model for model, name in short.items() if cell_len(model) <= limit)


CLINIC = "clinic_2026_internal_questions_second_edition"
REAL_NAMES = [
    "Qwen2.5-72B-Instruct-GPTQ-Int4",
    "runs/2026-11-29/llm-jp-3-13b-medical-mfpt-checkpoint-12000",
    "日本語医療大規模言語モデル七十億パラメータ版",
]


@pytest.mark.parametrize("width", WIDTHS)
def test_long_names_of_models_and_benchmarks_are_whole(width: int) -> None:
    """Three models, graded scores, an own file with a long name: nothing is cut."""
    console = Console(file=io.StringIO(), width=width)
    graded = score("igakuqa", "ja", "reference", "overlap", 1450, 700, 0.0, 1.0)
    results = [full(model, "ja") for model in REAL_NAMES]
    results = [replace(each, scores=(*each.scores, replace(graded, binary=False))) for each in results]
    renamed = [
        replace(
            each,
            settings=each.settings | {"benchmark": CLINIC},
            scores=tuple(replace(score, benchmark=CLINIC) for score in each.scores),
        )
        for each in results
    ]
    print_table(renamed, console)
    print_comparisons([replace(each, benchmark=CLINIC) for each in compared(REAL_NAMES)], console)
    lines = console.file.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= width
    assert not [line for line in lines if "…" in line]
    assert all(sum(name in line for line in lines) >= 6 for name in (*REAL_NAMES, CLINIC))


def test_names_that_differ_in_the_middle_are_numbered() -> None:
    assert shorten(["model-0000-a-0000-tuned", "model-0000-b-0000-tuned"], 15) == {
        "model-0000-a-0000-tuned": "model-0…0-tuned",
        "model-0000-b-0000-tuned": "model-…2…-tuned",
    }


STEPS = {
    "as it is": (
        90,
        [
            "model                       mean accuracy  95 % interval  how",
            "──────────────────────────────────────────────────────────────────────────────────────────",
            "exam ja",
            "  a-model-with-a-long-name           59.8   [57.6, 61.9]  label 108, no answer: refused 12",
        ],
    ),
    "headings and text wrap, gaps shrink": (
        78,
        [
            "                               mean",
            "model                      accuracy 95 % interval how",
            "──────────────────────────────────────────────────────────────────────────────",
            "exam ja",
            "  a-model-with-a-long-name     59.8  [57.6, 61.9] label 108, no answer:",
            "                                                  refused 12",
        ],
    ),
    "names on lines of their own": (
        72,
        [
            "model",
            "    mean accuracy  95 % interval  how",
            "──────────────────────────────────────────────────────────────────",
            "exam ja",
            "  a-model-with-a-long-name",
            "             59.8   [57.6, 61.9]  label 108, no answer: refused 12",
        ],
    ),
    "rows become lists": (
        30,
        [
            "exam ja",
            "a-model-with-a-long-name",
            "  mean accuracy: 59.8; 95 %",
            "  interval: [57.6, 61.9]; how:",
            "  label 108, no answer:",
            "  refused 12",
        ],
    ),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_table_narrows_in_steps(step: str) -> None:
    def build(names: Names) -> Grid:
        columns = (Column("mean accuracy"), Column("95 % interval"), Column("how", is_text=True))
        cells = "59.8", "[57.6, 61.9]", "label 108, no answer: refused 12"
        return Grid("model", columns, (("exam ja", (Line(names["a-model-with-a-long-name"], cells),)),))

    width, expected = STEPS[step]
    lines, legend = fit(build, ["a-model-with-a-long-name"], width)
    assert ([line.plain for line in lines], legend) == (expected, {})
