import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perwatt.timing.effective import Floats, checked, effective_size


def autoregressive(rho: float, n: int, seed: int) -> Floats:
    """A Gaussian AR(1) series of unit variance."""
    shocks = np.random.default_rng(seed).standard_normal(n)
    values = shocks.copy()
    for i in range(1, n):
        values[i] = rho * values[i - 1] + math.sqrt(1.0 - rho * rho) * shocks[i]
    return values


def test_independent_samples_count_nearly_in_full() -> None:
    sizes = [effective_size(np.random.default_rng(seed).standard_normal(2000)) for seed in range(20)]
    assert 1700 < np.median(sizes) <= 2000


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.7, 0.9])
def test_first_order_memory_is_taken_out(rho: float) -> None:
    known = 4000 * (1.0 - rho) / (1.0 + rho)
    found = np.median([effective_size(autoregressive(rho, 4000, seed)) for seed in range(20)])
    assert 0.8 * known < found < 1.15 * known


def test_only_order_matters_not_scale_or_shape() -> None:
    series = autoregressive(0.6, 300, 1)
    assert effective_size(np.exp(5.0 * series) + 3.0) == pytest.approx(effective_size(series))


def test_a_shuffled_series_forgets() -> None:
    series = autoregressive(0.9, 1000, 2)
    shuffled = np.random.default_rng(0).permutation(series)
    assert effective_size(series) < 120 < 700 < effective_size(shuffled)


def test_a_trend_is_worth_a_few_samples() -> None:
    assert effective_size(np.arange(1000.0)) < 15


def test_slow_switching_between_two_modes_is_worth_the_switches() -> None:
    modes = np.repeat([1.0, 1.3, 1.0, 1.3, 1.0, 1.3], 50)
    noisy = modes + 0.001 * np.random.default_rng(0).standard_normal(300)
    assert effective_size(noisy) < 25


def test_anticorrelation_is_not_credited() -> None:
    assert effective_size([1.0, 2.0] * 50) == 100


def test_a_coarse_clock_is_not_memory() -> None:
    ticks = np.round(np.random.default_rng(3).standard_normal(500))
    assert effective_size(ticks) > 350


@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_constant_samples_count_in_full(n: int) -> None:
    assert effective_size([0.25] * n) == n


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_refuses_what_is_not_finite_and_says_where(bad: float) -> None:
    with pytest.raises(ValueError, match="sample 1 is"):
        effective_size([1.0, bad, 2.0])


def test_refuses_an_empty_or_nested_series() -> None:
    with pytest.raises(ValueError, match="at least one"):
        effective_size([])
    with pytest.raises(ValueError, match="flat series"):
        checked(np.ones((2, 2)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=60))
def test_stays_between_one_and_n(samples: list[float]) -> None:
    assert 1.0 <= effective_size(samples) <= len(samples)
