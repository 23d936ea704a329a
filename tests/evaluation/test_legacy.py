"""The published protocol: its rules case by case, and its golden numbers on the public data."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmedllm.evaluation.benchmarks import load
from jmedllm.evaluation.order import present
from jmedllm.evaluation.question import Question, label
from jmedllm.evaluation.scorers import legacy
from jmedllm.evaluation.selection import select
from jmedllm.report.published import published_scores

FIVE = ("胃癌", "大腸癌", "膵癌", "肝癌", "胆嚢癌")


def question(choices=FIVE, gold=(2,)) -> Question:
    return Question("q", "igakuqa", "ja", "どれか。", tuple(choices), frozenset(gold))


@pytest.mark.parametrize(
    ("decoded", "response"),
    [
        pytest.param("### 指示：\n問\n### 応答：\n膵癌\n説明", "膵癌", id="Japanese marker, first line"),
        pytest.param("### 応答：\n\n  膵癌 \n", "膵癌", id="blank lines go first"),
        pytest.param("### 応答：\n膵癌### 応答：\n肝癌", "膵癌", id="up to the next marker"),
        pytest.param("### 応答：膵癌", "### 応答：膵癌", id="Japanese marker needs its line feed"),
        pytest.param("### Response:\nA\n### 応答：\nB", "B", id="Japanese marker comes first"),
        pytest.param("### Response:\nA\n### Answer: B", "B", id="Answer before Response"),
        pytest.param("### Answer: A ### Answer: B", "A", id="first of two answers"),
        pytest.param("### Response:\nA\n### Response:\nB", "A", id="self-made second question"),
        pytest.param("no marker\nat all", "no marker", id="whole text without a marker"),
        pytest.param("### Answer:", "", id="nothing after the marker"),
        pytest.param("A\u2028B\x0bC", "A\u2028B\x0bC", id="only a line feed ends a line"),
        pytest.param("", "", id="empty"),
    ],
)
def test_extract_response(decoded, response):
    assert legacy.extract_response(decoded) == response


@given(
    st.lists(
        st.sampled_from(["### 応答：\n", "### Answer:", "### Response:", "\n", " ", "膵", "."]) | st.text(max_size=9),
        max_size=9,
    )
)
def test_extract_response_takes_any_text(parts):
    response = legacy.extract_response("".join(parts))
    assert response == response.strip()
    assert "\n" not in response


pieces = st.lists(st.sampled_from(["### 応答：\n", "### 応答：", "### Answer:", "\n", " ", "膵"]), max_size=9).map(
    "".join
)


@pytest.mark.parametrize(
    ("decoded", "final"),
    [
        ("### 応答：\n膵癌\n", True),
        ("### 応答：\n\n \n", False),
        ("### 応答：\n膵癌", False),
        ("### 応答：\n膵癌### 応答：\n", True),
        ("### Response:\nA\n", False),  # a Japanese marker may still come
        ("", False),
    ],
)
def test_is_final(decoded, final):
    assert legacy.is_final(decoded) is final


@given(pieces, pieces)
def test_nothing_changes_a_final_response(decoded, more):
    if legacy.is_final(decoded):
        assert legacy.extract_response(decoded + more) == legacy.extract_response(decoded)


def test_a_completion_is_read_like_a_decoded_text():
    assert legacy.extract_response(legacy.after_marker("膵癌\n### Answer: 肝癌")) == "膵癌"


@pytest.mark.parametrize(
    ("gold", "response", "right"),
    [
        ("膵癌", "膵癌", True),
        ("膵癌.", " 膵癌", True),
        ("0.5 mg", "05 mg", True),  # every "." goes, a decimal point as well
        ("膵癌", "膵癌。", False),
        ("胃癌,膵癌", "膵癌,胃癌", False),
        ("Pancreatic cancer", "pancreatic cancer", False),
    ],
)
def test_exact_match(gold, response, right):
    assert legacy.exact_match(gold, response) is right


@pytest.mark.parametrize(
    ("choices", "gold", "response", "right"),
    [
        pytest.param(FIVE, "膵癌", "答えは膵癌です", True, id="most similar choice"),
        pytest.param(FIVE, "膵癌", "", False, id="an empty answer picks the first choice"),
        pytest.param(FIVE, "胃癌", "", True, id="... and is right where that is the gold"),
        pytest.param(FIVE, "胃癌,膵癌", "膵癌,胃癌", True, id="several, in any order"),
        pytest.param(FIVE, "胃癌,膵癌", "膵癌", True, id="half of several wins where ties favour the rest"),
        pytest.param(FIVE, "膵癌,肝癌", "膵癌", False, id="half of several loses elsewhere"),
        pytest.param(("a, b", "c", "d"), "a, b", "a, b", False, id="a comma in the gold cannot be won"),
        pytest.param(("a,b,c", "d"), "a,b,c", "a,b,c", False, id="more parts than choices"),
        pytest.param(("No.", "Yes."), "Yes.", "Yes.", True, id="choices and gold stay uncleaned"),
        pytest.param(("x", "y", "y"), "y", "y", True, id="of duplicates either will do"),
    ],
)
def test_gestalt_match(choices, gold, response, right):
    assert legacy.gestalt_match(choices, gold, response) is right


plain = st.text(st.characters(exclude_characters=",."), min_size=1, max_size=30).map(str.strip).filter(bool)


@given(st.lists(plain, min_size=2, max_size=8, unique=True), st.data())
def test_the_gold_text_wins_where_choices_are_plain(choices, data):
    asked = question(choices, [data.draw(st.integers(0, len(choices) - 1))])
    item_score = legacy.score_response(present(asked)[0], legacy.gold_text(asked))
    assert item_score.exact
    assert item_score.gestalt


def test_gold_text_joins_in_the_order_of_the_choices():
    assert legacy.gold_text(question(gold=(3, 0))) == "胃癌,肝癌"


def test_scores_carry_floor_and_ceiling():
    asked = [question(gold=(0,)), question(gold=(1,)), question(("a, b", "c"), (0,))]
    asked = [replace(each, id=f"q{i}") for i, each in enumerate(asked)]
    item_scores = [
        legacy.score_response(present(q)[0], response)
        for q, response in zip(asked, ["胃癌", "膵癌", "a, b"], strict=True)
    ]
    exact, gestalt = legacy.aggregate(asked, item_scores)
    assert (exact.metric, exact.correct, exact.floor, exact.ceiling) == ("exact_match", 2, 0.0, 1.0)
    assert (gestalt.metric, gestalt.correct, gestalt.n) == ("gestalt_match", 1, 3)
    assert (gestalt.floor, gestalt.ceiling) == pytest.approx((1 / 3, 2 / 3))


# What shared/papers.md measured: items, gold fed back, empty answer, right letters in lower and upper case.
GOLDEN = [
    ("igakuqa", "ja", 1450, 0.9924, 0.1697, 0.164, 0.172),
    ("igakuqa", "en", 1420, 0.9275, 0.1641, 0.173, 0.156),
    ("medqa-5", "en", 1269, 0.9685, 0.2080, 0.169, 0.183),
    ("medqa", "en", 1269, 0.9685, 0.2695, 0.209, 0.238),
    ("medmcqa", "en", 4183, 0.9790, 0.3148, 0.195, 0.281),
    ("jmmlu", "ja", 677, 0.9897, 0.1965, 0.195, 0.188),
]


@pytest.mark.parametrize(
    ("name", "language", "n", "ceiling", "floor", "lower", "upper"),
    GOLDEN,
    ids=[f"{g[0]}-{g[1]}" for g in GOLDEN],
)
def test_golden_numbers(shared: Path, name, language, n, ceiling, floor, lower, upper):
    asked = select(load(name, language, shared), "legacy")
    letters = [",".join(label(i) for i in sorted(q.gold)) for q in asked]
    of_lower = [legacy.score_response(present(q)[0], answer) for q, answer in zip(asked, letters, strict=True)]
    of_upper = [legacy.score_response(present(q)[0], answer.upper()) for q, answer in zip(asked, letters, strict=True)]
    exact, gestalt = legacy.aggregate(asked, of_lower)
    assert exact.n == n
    assert (exact.floor, exact.ceiling) == (0.0, 1.0)
    assert (round(gestalt.floor, 4), round(gestalt.ceiling, 4)) == (floor, ceiling)
    assert round(gestalt.value, 3) == lower
    for row in published_scores(name, language):
        assert (row.floor, row.ceiling) == pytest.approx((gestalt.floor, gestalt.ceiling), abs=1e-6)
    assert round(sum(v.gestalt for v in of_upper) / n, 3) == upper


@pytest.mark.parametrize("response", ["", ".", " .. "])
def test_what_the_protocol_counts_without_an_answer_says_so(response):
    """The nearest choice to an empty text is the shortest, or the first of equally near ones."""
    counted = legacy.score_response(present(question(gold=(0,)))[0], response)
    missed = legacy.score_response(present(question(gold=(4,)))[0], response)
    assert (counted.correct, missed.correct) == (True, False)
    assert (counted.answered, counted.how) == (False, legacy.NO_TEXT_RIGHT)
    assert (missed.answered, missed.how) == (False, legacy.NO_TEXT_WRONG)
    assert {score.no_answer for score in legacy.aggregate([question()] * 2, [counted, missed])} == {2}
    assert legacy.score_response(present(question())[0], "膵癌").how == "most similar"
