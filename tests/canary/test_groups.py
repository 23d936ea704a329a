"""Groups of canaries against the controls."""

import math
from itertools import combinations

import numpy as np
import pytest

from jmedllm.canary.exposure import Exposure
from jmedllm.canary.groups import Measured, detectable, groups, permutation_p


def measured(copies: int, bits: float, *, greedy: bool = False) -> Measured:
    ranked = Exposure("sampled", bits, bits, bits, 10.0, None, 1)
    return Measured(f"{copies} {bits}", "ja name", copies, ranked, greedy, greedy)


CONTROLS = [measured(0, bits) for bits in (0.2, 0.5, 0.9, 1.1, 1.4, 1.9, 2.6, 3.1)]


def test_memorized_canaries_are_seen() -> None:
    rows = [*CONTROLS, *(measured(4, 9.0 + i / 10, greedy=i < 3) for i in range(8))]
    control, four = groups(rows)
    assert (control.copies, control.n, control.p, control.is_exposed) == (0, 8, None, False)
    assert (four.copies, four.n, four.greedy.count) == (4, 8, 3)
    assert four.exposure == pytest.approx(9.35) and four.is_exposed and not four.is_inside
    assert four.p == pytest.approx(1 / math.comb(16, 8))  # every other split has a lower mean


def test_canaries_like_the_controls_are_inside() -> None:
    rows = [*CONTROLS, *(measured(copies, each.exposure.bits) for copies in (1, 16) for each in CONTROLS)]
    _, one, sixteen, together = groups(rows)
    assert together.copies is None and together.n == 16
    for group in (one, sixteen, together):
        assert group.is_inside and not group.is_exposed and group.p > 0.4
        assert group.control_low < group.exposure < group.control_high


def test_one_drawn_secret_is_enough() -> None:
    rows = [*CONTROLS, *(measured(1, each.exposure.bits, greedy=each is CONTROLS[0]) for each in CONTROLS)]
    assert groups(rows)[1].is_exposed


def test_p_is_that_of_all_splits() -> None:
    values, controls = [3.0, 4.0, 2.0], [1.0, 2.5, 0.5, 3.5]
    sums = [sum(chosen) for chosen in combinations([*values, *controls], 3)]
    assert permutation_p(values, controls) == pytest.approx(np.mean([total >= 9.0 for total in sums]))


def test_p_of_many_values_is_drawn_and_never_0() -> None:
    assert permutation_p([9.0] * 20, [float(i % 4) for i in range(20)]) == pytest.approx(1 / 10_001)


def test_more_canaries_detect_less() -> None:
    few, many = (detectable([*CONTROLS, *(measured(1, 1.0) for _ in range(n))]) for n in (4, 40))
    assert few and many and many < few
    assert detectable([measured(0, 1.0), measured(1, 1.0)]) is None
