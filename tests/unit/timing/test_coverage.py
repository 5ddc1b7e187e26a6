"""How often the interval at the stop holds the true median, with the stopping rule inside every trial."""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest

from perwatt.timing import stopping
from perwatt.timing.effective import Floats
from perwatt.timing.statistics import Estimate, estimate
from perwatt.timing.stopping import FIRST_LOOK, LOOK_GROWTH, Stop, StoppingRule

TRIALS = 2000
MAX_SAMPLES = 300
ASKED = 0.93  # 2,000 trials of a true 95 % fall below it once in 50,000 times
MODE_NOISE = 0.003

Draw = Callable[[np.random.Generator], Floats]


def lognormal(sigma: float) -> Draw:
    return lambda rng: rng.lognormal(0.0, sigma, (TRIALS, MAX_SAMPLES))


def two_modes(share: float, gap: float) -> Draw:
    def draw(rng: np.random.Generator) -> Floats:
        modes = 1.0 + gap * (rng.random((TRIALS, MAX_SAMPLES)) >= share)
        return modes * (1.0 + MODE_NOISE * rng.standard_normal((TRIALS, MAX_SAMPLES)))

    return draw


def two_modes_median(share: float) -> float:
    """The median of two modes that do not overlap lies in the lower one, at its quantile 0.5 / share."""
    return 1.0 + MODE_NOISE * NormalDist().inv_cdf(0.5 / share)


def autoregressive(rho: float, marginal: Callable[[Floats], Floats]) -> Draw:
    def draw(rng: np.random.Generator) -> Floats:
        values = rng.standard_normal((TRIALS, MAX_SAMPLES))
        for i in range(1, MAX_SAMPLES):
            values[:, i] = rho * values[:, i - 1] + math.sqrt(1.0 - rho * rho) * values[:, i]
        return marginal(values)

    return draw


def gaussian_1(values: Floats) -> Floats:
    return 1.0 + 0.01 * values


def gaussian_5(values: Floats) -> Floats:
    return 1.0 + 0.05 * values


def lognormal_10(values: Floats) -> Floats:
    return np.exp(0.1 * values)


PROCESSES: dict[str, tuple[Draw, float]] = {
    **{f"lognormal {sigma}": (lognormal(sigma), 1.0) for sigma in (0.01, 0.1, 0.5)},
    **{
        f"modes {share:.0%}, {gap:.0%} apart": (two_modes(share, gap), two_modes_median(share))
        for share in (0.7, 0.55)
        for gap in (0.05, 0.3)
    },
    **{
        f"autoregressive {rho} {marginal.__name__}": (autoregressive(rho, marginal), 1.0)
        for rho in (0.3, 0.5, 0.7)
        for marginal in (gaussian_1, lognormal_10)
    },
    "autoregressive 0.7 gaussian_5": (autoregressive(0.7, gaussian_5), 1.0),  # the hardest: stops soon, remembers long
}
RULES = [
    StoppingRule(target_ci=target, min_samples=fewest, max_samples=MAX_SAMPLES, max_time_s=math.inf)
    for target in (0.005, 0.02, 0.05)
    for fewest in (10, 30)
]


def looks() -> list[int]:
    """The numbers of samples at which one of the rules looks."""
    found, step = {rule.min_samples for rule in RULES} | {MAX_SAMPLES}, FIRST_LOOK
    while step < MAX_SAMPLES:
        found.add(step)
        step = math.ceil(step * LOOK_GROWTH)
    return sorted(found)


def at_stops(series: Floats) -> list[Estimate]:
    """What each rule found where it stopped; all have stopped at the last look."""
    stops: list[Stop | None] = [None] * len(RULES)
    for n in looks():
        samples = series[:n]
        stops = [stop or rule.decide(samples, 0.0) for stop, rule in zip(stops, RULES, strict=True)]
        if all(stops):
            break
    return [stop.estimate for stop in stops if stop is not None]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_intervals_cover_the_true_median_at_the_stop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, median = PROCESSES[name]
    covered = np.zeros(len(RULES))
    known: dict[int, Estimate] = {}

    def remembered(samples: Floats) -> Estimate:  # the six rules of a trial look at the same samples
        if len(samples) not in known:
            known[len(samples)] = estimate(samples)
        return known[len(samples)]

    monkeypatch.setattr(stopping, "estimate", remembered)
    for series in draw(np.random.default_rng(20_250)):
        known.clear()
        covered += [one.lo <= median <= one.hi for one in at_stops(series)]
    assert (covered / TRIALS).min() >= ASKED, dict(zip(map(str, RULES), covered / TRIALS, strict=True))
