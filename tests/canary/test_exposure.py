"""Exposure: ranks, intervals, and agreement with scipy's skew-normal distribution."""

import math

import numpy as np
import pytest

from jmedllm.canary.exposure import exposure, fit_skew_normal, log_cdf_skew_normal


@pytest.mark.parametrize(
    ("secret", "others", "size", "method", "bits", "rank"),
    [
        (-1.0, [-2.0, -3.0, -4.0], 4, "exact", 2.0, 1),
        (-5.0, [-2.0, -3.0, -4.0], 4, "exact", 0.0, 4),
        (-2.5, [-2.0, -3.0, -4.0], 4, "exact", 1.0, 2),
        (-2.0, [-2.0] * 7, 100, "sampled", math.log2(8) - math.log2(4.5), 4.5),  # all equally likely
        (-1.0, [-2.0 - i for i in range(999)], 10**6, "sampled", math.log2(1000), 1),
    ],
)
def test_rank(secret: float, others: list[float], size: int, method: str, bits: float, rank: float) -> None:
    found = exposure(secret, others, size)
    assert (found.method, found.rank) == (method, rank)
    assert found.bits == pytest.approx(bits)
    assert found.low <= found.bits + 1e-9 and found.bits - 1e-9 <= max(found.high, found.highest)


def test_the_interval_of_a_sampled_rank_contains_the_exact_exposure() -> None:
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(40):
        everything = random.normal(size=2_000)
        secret, others = everything[0], everything[1:]
        exact = exposure(secret, others.tolist(), 2_000)
        sampled = exposure(secret, random.choice(others, 200, replace=False).tolist(), 2_000)
        assert exact.method == "exact" and sampled.method == "sampled"
        inside += sampled.low <= exact.bits <= sampled.high
    assert inside >= 35


def test_a_secret_by_chance_has_an_exposure_of_1_44_bits() -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(3000, 200))
    assert np.mean([exposure(row[0], row[1:].tolist(), 200).bits for row in values]) == pytest.approx(1.44, abs=0.1)


@pytest.mark.parametrize("shape", [-5.0, -1.0, 0.0, 2.0])
@pytest.mark.parametrize("z", [-8.0, -2.0, 0.0, 1.5])
def test_skew_normal_agrees_with_scipy(z: float, shape: float) -> None:
    from scipy.stats import skewnorm

    if math.isfinite(expected := float(skewnorm.logcdf(z, shape))):
        assert log_cdf_skew_normal(z, shape) == pytest.approx(expected, abs=2e-3)


def test_the_fit_finds_the_moments() -> None:
    from scipy.stats import skewnorm

    values = skewnorm.rvs(3, loc=-20, scale=4, size=20_000, random_state=1)
    location, scale, shape = fit_skew_normal(values)
    mean, variance, skew = skewnorm.stats(shape, loc=location, scale=scale, moments="mvs")
    assert (mean, variance) == pytest.approx((values.mean(), values.var()))
    assert skew == pytest.approx(((values - values.mean()) ** 3).mean() / values.std() ** 3)


def test_extrapolation_goes_beyond_the_candidates() -> None:
    values = np.random.default_rng(2).normal(-30, 3, 1000)
    found = exposure(-9.0, values.tolist(), 10**8)  # seven deviations: 2e-12 of all
    assert found.highest == pytest.approx(9.97, abs=0.01) and found.bits == found.highest
    assert found.extrapolated == pytest.approx(math.log2(10**8))
    middle = exposure(-21.0, values.tolist(), 10**8)  # three deviations: 1 in 741
    assert middle.extrapolated == pytest.approx(9.5, abs=1.0)
