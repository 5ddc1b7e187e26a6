import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perwatt.timing.statistics import (
    Estimate,
    difference,
    estimate,
    paired_difference,
    pooled,
    ratio,
    ratio_of,
    summary,
)

Draw = Callable[[np.random.Generator], Estimate]


def coverage(draw: Draw, true: float, trials: int, seed: int = 0) -> float:
    """The share of trials whose interval holds the true value."""
    rng = np.random.default_rng(seed)
    found = [draw(rng) for _ in range(trials)]
    return float(np.mean([one.lo <= true <= one.hi for one in found]))


def made(median: float, lo: float, hi: float, n: int = 100, n_eff: float = 50.0) -> Estimate:
    return Estimate(median=median, lo=lo, hi=hi, n=n, n_eff=n_eff)


# --- one process


def test_the_median_of_odd_and_even_numbers_of_samples() -> None:
    assert estimate([3.0, 1.0, 2.0]).median == 2.0
    assert estimate([4.0, 1.0, 3.0, 2.0]).median == 2.5


def test_the_ends_are_order_statistics_at_the_binomial_depth() -> None:
    samples = np.random.default_rng(1).permutation(np.arange(1.0, 1001.0))
    found = estimate(samples)
    depth = 1.96 * math.sqrt(1000) / 2 * math.sqrt(1000 / found.n_eff)  # 31 ranks, for independent samples
    assert found.hi - found.median == pytest.approx(depth, rel=0.04)
    assert found.median - found.lo == pytest.approx(depth, rel=0.04)


def test_the_interval_is_as_skewed_as_the_samples() -> None:
    found = estimate(np.random.default_rng(0).exponential(size=200))
    assert found.hi - found.median > 1.1 * (found.median - found.lo)


def test_one_far_outlier_moves_nothing() -> None:
    samples = list(np.random.default_rng(0).normal(1.0, 0.01, 200))
    shifted = estimate([*samples[:-1], 1e9])
    assert shifted.median == pytest.approx(estimate(samples).median, rel=1e-3)
    assert shifted.rel_half_width < 0.005


def test_a_higher_confidence_is_wider() -> None:
    samples = np.random.default_rng(0).normal(1.0, 0.01, 100)
    widths = [estimate(samples, confidence).rel_half_width for confidence in (0.5, 0.9, 0.95, 0.99)]
    assert widths == sorted(widths)
    assert widths[0] < 0.5 * widths[-1]


def test_few_effective_samples_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    samples = np.sort(rng.normal(1.0, 0.01, 100))
    assert estimate(samples).n_eff < 20
    assert estimate(samples).rel_half_width > 5 * estimate(rng.permutation(samples)).rel_half_width


def test_a_few_samples_get_an_interval_beyond_their_range() -> None:
    found = estimate([1.00, 1.02, 1.01])
    assert 0.0 < found.lo < 1.00
    assert 1.02 < found.hi < 1.4


def test_constant_samples_have_no_width() -> None:
    found = estimate([0.25] * 12)
    assert (found.median, found.lo, found.hi, found.n, found.n_eff) == (0.25, 0.25, 0.25, 12, 12.0)
    assert found.rel_half_width == 0.0


def test_one_sample_says_nothing_about_spread() -> None:
    assert estimate([0.5]) == Estimate(median=0.5, lo=0.0, hi=math.inf, n=1, n_eff=1.0)
    assert estimate([-0.5]).lo == -math.inf
    assert estimate([0.5]).rel_half_width == math.inf


def test_the_lower_end_of_times_is_not_negative() -> None:
    samples = [0.1, 5.0, 30.0, 0.2]
    assert estimate(samples).lo == 0.0
    assert estimate([-one for one in samples]).lo < -30.0


def test_a_width_around_zero_has_no_ratio() -> None:
    assert made(0.0, -1.0, 1.0).rel_half_width == math.inf
    assert made(0.0, 0.0, 0.0).rel_half_width == 0.0
    assert made(-2.0, -3.0, -1.5).rel_half_width == 0.5


@pytest.mark.parametrize("call", [estimate, summary, lambda s: pooled([s]), lambda s: pooled([[1.0], s])])
@pytest.mark.parametrize("samples", [[], [1.0, math.nan], [1.0, math.inf]])
def test_refuses_empty_and_not_finite_samples(call: Callable[[list[float]], object], samples: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        call(samples)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50), st.floats(0.5, 0.999))
def test_the_interval_holds_the_median(samples: list[float], confidence: float) -> None:
    found = estimate(samples, confidence)
    assert found.lo <= found.median <= found.hi
    assert found.median == pytest.approx(float(np.median(samples)))


def test_the_unit_scales_through() -> None:
    samples = np.random.default_rng(0).lognormal(0.0, 0.1, 60)
    one, thousand = estimate(samples), estimate(1000.0 * samples)
    assert (thousand.lo, thousand.hi) == pytest.approx((1000.0 * one.lo, 1000.0 * one.hi))
    assert thousand.rel_half_width == pytest.approx(one.rel_half_width)


@pytest.mark.parametrize(("n", "limit_s"), [(200, 1e-3), (5000, 5e-3)])
def test_is_fast_enough_to_be_called_between_samples(n: int, limit_s: float) -> None:
    samples = np.random.default_rng(0).lognormal(size=n)
    best = math.inf
    for _ in range(20):
        started = time.perf_counter()
        estimate(samples)
        best = min(best, time.perf_counter() - started)
    assert best < limit_s


@pytest.mark.parametrize("n", [5, 10, 30, 200])
@pytest.mark.parametrize("sigma", [0.01, 0.5])
def test_covers_at_a_fixed_number_of_samples(n: int, sigma: float) -> None:
    assert coverage(lambda rng: estimate(rng.lognormal(0.0, sigma, n)), 1.0, 1000) > 0.94


# --- spread


def test_summary_of_known_samples() -> None:
    found = summary([float(one) for one in range(11)])
    assert (found.mean, found.p10, found.p90) == (5.0, 1.0, 9.0)
    assert found.stdev == pytest.approx(math.sqrt(11.0))


def test_summary_of_one_sample_has_no_deviation() -> None:
    found = summary([2.0])
    assert (found.mean, found.stdev, found.p10, found.p90) == (2.0, None, 2.0, 2.0)


# --- several processes


def test_one_process_keeps_its_interval() -> None:
    samples = np.random.default_rng(0).lognormal(0.0, 0.1, 50)
    assert pooled([samples]) == estimate(samples)


def test_processes_have_equal_weight_whatever_their_numbers_of_samples() -> None:
    assert pooled([[1.0] * 90, [2.0] * 10, [3.0] * 10]).median == 2.0
    assert pooled([[1.0] * 90, [2.0] * 10]).median == 1.5


def test_pooling_equal_numbers_is_the_plain_median() -> None:
    groups = np.random.default_rng(0).lognormal(size=(4, 25))
    assert pooled(list(groups)).median == pytest.approx(float(np.median(groups)))


def test_between_processes_the_interval_is_students() -> None:
    found = pooled([[0.99] * 30, [1.00] * 30, [1.01] * 30])
    half = 4.3027 * 0.01 / math.sqrt(3.0)
    assert (found.lo, found.hi) == pytest.approx((1.0 - half, 1.0 + half), abs=1e-6)
    assert (found.n, found.n_eff) == (90, 90.0)


def test_agreement_by_luck_does_not_beat_the_processes_own_intervals() -> None:
    samples = np.random.default_rng(0).lognormal(0.0, 0.1, 50)
    found, own = pooled([samples] * 3), estimate(samples)
    assert found.hi - found.median == pytest.approx((own.hi - own.median) / math.sqrt(3.0))


def test_processes_of_one_sample_are_judged_by_their_scatter() -> None:
    found = pooled([[1.00], [1.02], [1.01]])
    assert found.median == 1.01
    assert found.hi == pytest.approx(1.01 + 4.3027 * 0.01 / math.sqrt(3.0), abs=1e-6)


def test_the_same_sample_from_every_process_has_no_width() -> None:
    assert pooled([[1.0], [1.0], [1.0]]).rel_half_width == 0.0


def test_differences_below_zero_are_pooled_too() -> None:
    found = pooled([[-0.2, 0.1, 0.3] * 5, [0.0, 0.1, 0.2] * 5])
    assert found.lo < 0.0 < found.median == 0.1


def test_refuses_no_process() -> None:
    with pytest.raises(ValueError, match="no process"):
        pooled([])


@pytest.mark.parametrize("processes", [3, 5])
@pytest.mark.parametrize("between", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("sigma", [0.01, 0.1])
def test_covers_over_processes(processes: int, between: float, sigma: float) -> None:
    def draw(rng: np.random.Generator) -> Estimate:
        levels = between * rng.standard_normal(processes)
        return pooled([np.exp(level + sigma * rng.standard_normal(50)) for level in levels])

    assert coverage(draw, 1.0, 600) > 0.93


def test_covers_over_processes_that_differ_as_much_as_their_modes() -> None:
    def draw(rng: np.random.Generator) -> Estimate:
        modes = 1.0 + 0.05 * (rng.random((5, 100)) > 0.7)
        noise = 1.0 + 0.003 * rng.standard_normal((5, 100))
        return pooled(list((1.0 + 0.02 * rng.standard_normal((5, 1))) * modes * noise))

    assert coverage(draw, 1.0017, 600) > 0.93  # 1.0017: the 5/7 quantile of the lower mode


# --- two sides


def test_a_ratio_of_known_estimates() -> None:
    found = ratio_of(made(2.0, 1.8, 2.2, n=40, n_eff=30.0), made(1.0, 0.9, 1.3, n=60, n_eff=20.0))
    assert found.median == pytest.approx(2.0)
    assert found.lo == pytest.approx(2.0 * math.exp(-math.hypot(math.log(2.0 / 1.8), math.log(1.3))))
    assert found.hi == pytest.approx(2.0 * math.exp(math.hypot(math.log(1.1), math.log(1.0 / 0.9))))
    assert (found.n, found.n_eff) == (40, 20.0)


def test_the_inverse_ratio_has_the_inverse_interval() -> None:
    a, b = made(2.0, 1.8, 2.2), made(1.0, 0.9, 1.3)
    there, back = ratio_of(a, b), ratio_of(b, a)
    assert (1.0 / back.hi, 1.0 / back.median, 1.0 / back.lo) == pytest.approx((there.lo, there.median, there.hi))


def test_a_side_without_bounds_leaves_the_ratio_without() -> None:
    found = ratio([1.0, 1.1, 1.0, 1.1], [2.0])
    assert (found.lo, found.hi) == (0.0, math.inf)


def test_refuses_a_ratio_of_what_is_not_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        ratio([1.0, 0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="positive"):
        ratio_of(made(1.0, 0.9, 1.1), made(-1.0, -2.0, 0.0))


@pytest.mark.parametrize("call", [lambda a, b: ratio(a, b, paired=True), difference, paired_difference])
def test_refuses_pairs_of_unequal_number(call: Callable[[list[float], list[float]], object]) -> None:
    with pytest.raises(ValueError, match="expected pairs"):
        call([1.0, 2.0], [1.0])


def test_shared_drift_cancels_in_pairs() -> None:
    rng = np.random.default_rng(0)
    drift = np.linspace(1.0, 1.2, 60)
    a, b = (2.0 * drift * rng.normal(1.0, 0.002, 60), drift * rng.normal(1.0, 0.002, 60))
    assert ratio(a, b, paired=True).rel_half_width < 0.002 < 0.1 < ratio(a, b).rel_half_width
    assert ratio(a, b, paired=True).median == pytest.approx(2.0, rel=2e-3)


def test_a_difference_of_known_pairs() -> None:
    assert paired_difference([3.0, 5.0], [1.0, 2.0]) == [2.0, 3.0]
    found = difference([3.0, 5.0, 4.0] * 10, [1.0, 3.0, 2.0] * 10)
    assert (found.median, found.lo, found.hi, found.n) == (2.0, 2.0, 2.0, 30)


def test_a_difference_may_reach_below_zero() -> None:
    rng = np.random.default_rng(0)
    found = difference(rng.normal(1.0, 0.1, 50), rng.normal(1.0, 0.1, 50))
    assert found.lo < 0.0 < found.hi


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("n", [20, 100])
def test_a_against_itself_covers_one(paired: bool, n: int) -> None:
    def draw(rng: np.random.Generator) -> Estimate:
        a, b = rng.lognormal(0.0, 0.05, (2, n))
        return ratio(a, b, paired=paired)

    assert coverage(draw, 1.0, 1000) > 0.94


def test_two_modes_against_themselves_cover_one() -> None:
    def draw(rng: np.random.Generator) -> Estimate:
        a, b = (1.0 + 0.3 * (rng.random((2, 60)) > 0.55)) * rng.normal(1.0, 0.003, (2, 60))
        return ratio(a, b)

    assert coverage(draw, 1.0, 1000) > 0.94


def test_a_difference_under_drift_covers() -> None:
    def draw(rng: np.random.Generator) -> Estimate:
        drift = 0.02 * np.cumsum(rng.standard_normal(100)) / 10.0
        a, b = 3.0 + drift + 0.01 * rng.standard_normal(100), 1.0 + drift + 0.01 * rng.standard_normal(100)
        return difference(a, b)

    assert coverage(draw, 2.0, 1000) > 0.94
