"""Rates and rows follow from the step number alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmedllm.training import batches
from jmedllm.training.batches import learning_rate, rows_of_step

# total, warm-up steps: fractions of the peak at each step. Cosine by hand: 0.1 + 0.9 * (1 + cos(pi * p)) / 2.
RATES = {
    (5, 0): [1.0, 0.868198051534, 0.55, 0.231801948466, 0.1],
    (5, 2): [0.5, 1.0, 1.0, 0.55, 0.1],
    (6, 3): [1 / 3, 2 / 3, 1.0, 1.0, 0.55, 0.1],
    (3, 3): [1 / 3, 2 / 3, 1.0],
    (4, 3): [1 / 3, 2 / 3, 1.0, 1.0],
    (2, 0): [1.0, 0.1],
    (1, 0): [1.0],
    (1, 1): [1.0],
}


@pytest.mark.parametrize("shape", RATES, ids=str)
@pytest.mark.parametrize("peak", [1.0, 3e-3])
def test_rates(shape: tuple[int, int], peak: float) -> None:
    total, warmup = shape
    rates = [learning_rate(step, total, peak, warmup) for step in range(total)]
    assert rates == pytest.approx([peak * share for share in RATES[shape]], rel=1e-9)


def test_rates_of_the_demo() -> None:
    """Stage 1 of recipes/demo.yaml: 1,400 steps, 42 of them warm-up, peak 3e-3."""
    rates = {step: learning_rate(step, 1400, 3e-3, 42) for step in (0, 41, 42, 720, 721, 1399)}
    assert rates == pytest.approx(
        {0: 3e-3 / 42, 41: 3e-3, 42: 3e-3, 720: 1.6515642e-3, 721: 1.6484358e-3, 1399: 3e-4}, rel=1e-6
    )


@given(total=st.integers(1, 300), share=st.floats(0, 0.99), floor=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_rates_rise_once_and_fall_once(total: int, share: float, floor: float) -> None:
    warmup = round(share * total)
    rates = [learning_rate(step, total, 1.0, warmup, floor) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates[:-1])
    assert np.all(np.diff(rates[:warmup]) > 0)
    assert np.all(np.diff(rates[warmup:]) <= 1e-12)
    assert max(rates) == 1.0
    if total > warmup + 1:
        assert rates[-1] == pytest.approx(floor)


@given(batch=st.integers(1, 9), available=st.integers(1, 20), epochs=st.integers(1, 4), seed=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_every_row_is_seen_once_in_every_epoch(batch: int, available: int, epochs: int, seed: int) -> None:
    steps = -(-epochs * available // batch)
    stream = np.concatenate([rows_of_step(step, batch, available, seed) for step in range(steps)])
    assert len(stream) == steps * batch
    for epoch in range(epochs):
        assert sorted(stream[epoch * available : (epoch + 1) * available]) == list(range(available))


@given(first=st.integers(0, 40), batch=st.integers(1, 9), available=st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_a_step_needs_no_step_before_it(first: int, batch: int, available: int) -> None:
    whole = [rows_of_step(step, batch, available, 3).tolist() for step in range(first + 3)]
    resumed = [rows_of_step(step, batch, available, 3).tolist() for step in range(first, first + 3)]
    assert resumed == whole[first:]


@given(batch=st.integers(1, 6), factor=st.integers(2, 4), available=st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_a_larger_batch_is_steps_joined(batch: int, factor: int, available: int) -> None:
    steps = [rows_of_step(step, batch, available, 5) for step in range(factor)]
    assert rows_of_step(0, batch * factor, available, 5).tolist() == np.concatenate(steps).tolist()


def test_the_order_is_that_of_the_seed() -> None:
    """Golden: numpy's PCG64 on (seed, epoch); a change would make checkpoints resume with other rows."""
    assert [rows_of_step(step, 4, 6, 0).tolist() for step in range(4)] == [
        [3, 2, 5, 4],
        [0, 1, 1, 4],
        [3, 0, 2, 5],
        [5, 2, 0, 1],
    ]
    orders = {tuple(rows_of_step(0, 50, 50, seed)) for seed in range(5)}
    orders |= {tuple(rows_of_step(epoch, 50, 50, 0)) for epoch in range(1, 5)}
    assert len(orders) == 9


def test_an_epoch_is_drawn_once() -> None:
    batches._permutation.cache_clear()
    for step in range(20):
        rows_of_step(step, 3, 40, 1)
    assert batches._permutation.cache_info().misses == 2


def test_fewer_rows_than_the_batch_repeat_evenly() -> None:
    assert Counter(rows_of_step(0, 9, 3, 0).tolist()) == {0: 3, 1: 3, 2: 3}
