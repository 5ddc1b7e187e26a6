import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perwatt.timing.statistics import Estimate, estimate
from perwatt.timing.stopping import Stop, StoppingRule, StopReason


def rule(
    target_ci: float = 0.02, min_samples: int = 10, max_samples: int = 1000, max_time_s: float = 60.0
) -> StoppingRule:
    return StoppingRule(target_ci=target_ci, min_samples=min_samples, max_samples=max_samples, max_time_s=max_time_s)


def noise(sigma: float, n: int, seed: int = 0) -> list[float]:
    return [float(one) for one in np.random.default_rng(seed).lognormal(0.0, sigma, n)]


def first_stop(which: StoppingRule, samples: list[float], block: int = 1) -> Stop | None:
    """The stop when samples arrive in blocks."""
    for n in range(block, len(samples) + 1, block):
        if stop := which.decide(samples[:n], 0.0, before=n - block):
            return stop
    return None


def test_goes_on_before_the_fewest_samples() -> None:
    assert rule(min_samples=30).decide([1.0] * 29, 0.0) is None


def test_stops_when_the_interval_is_within_the_target() -> None:
    stop = first_stop(rule(), noise(0.01, 200))
    assert stop is not None
    assert stop.reason is StopReason.TARGET
    assert stop.estimate.rel_half_width <= 0.02
    assert stop.estimate.n < 40


def test_goes_on_while_the_interval_is_wider() -> None:
    assert rule(target_ci=0.005).decide(noise(0.1, 200), 0.0) is None


def test_noisier_samples_take_longer() -> None:
    taken = []
    for sigma in (0.005, 0.02, 0.05):
        stop = first_stop(rule(), noise(sigma, 1000))
        assert stop is not None
        taken.append(stop.estimate.n)
    assert taken == sorted(set(taken))


def test_constant_samples_stop_at_the_first_look() -> None:
    stop = first_stop(rule(min_samples=30), [0.25] * 100)
    assert stop is not None
    assert (stop.estimate.n, stop.text) == (30, "target")


def test_memory_takes_longer() -> None:
    samples = noise(0.02, 400)
    remembering = [float(one) for one in np.convolve(samples, np.full(9, 1 / 9), "valid") ** 3.0]  # same deviation
    plain, slow = first_stop(rule(), samples), first_stop(rule(), remembering)
    assert plain is not None
    assert slow is not None
    assert slow.estimate.n > 2 * plain.estimate.n


def test_a_trend_far_inside_the_target_stops_and_names_what_it_is_worth() -> None:
    stop = first_stop(rule(), [1.0 + 1e-6 * i for i in range(100)])
    assert stop is not None
    assert stop.text == "target (n_eff 1)"
    assert stop.estimate.rel_half_width > 2e-5


def test_time_ends_it_with_whatever_there_is() -> None:
    stop = rule(min_samples=30).decide(noise(0.1, 5), 60.0)
    assert stop is not None
    assert stop.reason is StopReason.TIME
    assert stop.estimate == estimate(noise(0.1, 5))
    assert stop.text == f"time (n_eff {math.floor(stop.estimate.n_eff)})"


def test_time_without_a_sample_has_nothing_to_report() -> None:
    assert rule().decide([], 1e9) is None


def test_one_sample_at_the_end_of_time_has_no_bounds() -> None:
    stop = rule().decide([0.5], 60.0)
    assert stop is not None
    assert (stop.estimate.hi, stop.text) == (math.inf, "time (n_eff 1)")


def test_the_largest_number_of_samples_ends_it() -> None:
    stop = rule(target_ci=1e-6, max_samples=100).decide(noise(0.1, 100), 0.0)
    assert stop is not None
    assert stop.reason is StopReason.SAMPLES
    assert stop.text == "samples"


def test_a_limit_is_a_last_look_at_the_target() -> None:
    for stop in (rule(max_samples=40).decide(noise(0.01, 40), 0.0), rule().decide(noise(0.01, 40), 60.0)):
        assert stop is not None
        assert stop.reason is StopReason.TARGET


@pytest.mark.parametrize(
    ("n_eff", "text"), [(14.9, "target (n_eff 14)"), (19.99, "target (n_eff 19)"), (20.0, "target"), (300.0, "target")]
)
def test_a_small_n_eff_is_named(n_eff: float, text: str) -> None:
    found = Estimate(median=1.0, lo=0.99, hi=1.01, n=300, n_eff=n_eff)
    assert Stop(reason=StopReason.TARGET, estimate=found).text == text


def test_every_reason_has_a_code_and_a_sentence() -> None:
    assert [reason.code for reason in StopReason] == ["target", "time", "samples"]
    assert all(reason.sentence.endswith(".") for reason in StopReason)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="sample 3 is nan"):
        rule().decide([1.0, 1.0, 1.0, math.nan] * 5, 0.0)


@pytest.mark.parametrize(
    "wrong",
    [{"target_ci": 0.0}, {"target_ci": math.nan}, {"max_time_s": 0.0}, {"min_samples": 0}, {"min_samples": 2000}],
)
def test_refuses_a_rule_that_cannot_work(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        rule(**wrong)  # type: ignore[arg-type]


def test_the_defaults_are_those_of_the_method() -> None:
    default = StoppingRule(max_time_s=10.0)
    assert (default.target_ci, default.min_samples, default.max_samples) == (0.005, 30, 10_000)


def test_between_two_looks_nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def watched(samples: list[float]) -> Estimate:
        looks.append(len(samples))
        return estimate(samples)

    monkeypatch.setattr("perwatt.timing.stopping.estimate", watched)
    first_stop(rule(target_ci=1e-6), noise(0.1, 60))
    assert looks == [10, 13, 17, 22, 28, 35, 44, 55]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), block=st.integers(2, 11), sigma=st.sampled_from([0.005, 0.02, 0.06]))
def test_blocks_stop_where_single_samples_would(seed: int, block: int, sigma: float) -> None:
    samples = noise(sigma, 400, seed)
    asked = rule(min_samples=44)  # from here on looks are further apart than blocks are long
    single, blocks = first_stop(asked, samples), first_stop(asked, samples, block)
    if single is None or blocks is None:
        assert blocks is None
        return
    assert blocks.estimate.n == math.ceil(single.estimate.n / block) * block
