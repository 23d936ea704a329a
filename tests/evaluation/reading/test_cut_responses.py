"""Responses that were cut off, and reasoning without an end."""

import pytest
from test_read import ONE, outcome, question


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        pytest.param("答え：C", "c", id="stated before the cut"),
        pytest.param("C", "c", id="nothing but a label"),
        pytest.param("膵癌\n理由は、胃癌で", "c", id="begins with a line that is a text"),
        pytest.param("C\n理由は、胃癌で", "c", id="begins with a line that is a label"),
        pytest.param("まずAを検討すると、", "truncated", id="still thinking"),
        pytest.param("患者は黄疸があり、膵癌の", "truncated", id="a mention is no conclusion"),
        pytest.param("<think>Aは違う", "truncated", id="inside its reasoning"),
        pytest.param("<think>A</think>", "truncated", id="after its reasoning"),
        pytest.param("<|channel|>analysis<|message|>答え：C", "truncated", id="inside a channel"),
        pytest.param("", "truncated", id="nothing at all"),
        pytest.param('{"answer_choice": "C', "c", id="JSON without an end"),
    ],
)
def test_a_cut_response(response, expected):
    assert outcome(response, ONE, truncated=True) == expected


@pytest.mark.parametrize(
    "response", ["<think>Aは違う", "<|channel|>analysis<|message|>答え：C", "analysisThe answer is C"]
)
def test_reasoning_without_an_end_is_no_answer(response):
    assert outcome(response, ONE) == "truncated"


def test_a_cut_text_that_may_go_on_is_no_answer():
    item = question(("肺", "肺 動脈", "胃"), "a")
    assert outcome("正解は肺", item) == "a"
    assert outcome("正解は肺", item, truncated=True) == "truncated"
    assert outcome("正解は胃", item, truncated=True) == "c"
