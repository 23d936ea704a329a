"""Log-probabilities of labels from a list of the most likely next tokens."""

import math

import pytest

from jmedllm.models.backends.top_logprobs import UNLISTED, from_listed


def test_spellings_of_a_label_are_summed() -> None:
    assert from_listed([[math.log(0.25), math.log(0.5)], [-3.0]]) == pytest.approx((math.log(0.75), -3.0))


def test_a_label_that_is_not_listed_is_marked() -> None:
    assert from_listed([[], [-3.0], []]) == (UNLISTED, -3.0, UNLISTED)


def test_no_label_listed_is_no_answer() -> None:
    assert from_listed([[], []]) is None
