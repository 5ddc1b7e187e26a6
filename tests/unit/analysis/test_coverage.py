"""Intervals of ratios hold the truth, and verdicts are rarely wrong, with the stopping rule inside every trial."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from perwatt.analysis.levels import Allowance
from perwatt.timing.effective import Floats
from perwatt.timing.statistics import Estimate
from perwatt.timing.stopping import StoppingRule
from support.trials import Bank, Design, compared, coverage, share, width
from unit.timing.test_coverage import PROCESSES, looks

ASKED = 0.93
TRUTH = 1.07  # how many times as fast the candidate is
NOTHING = Allowance(process=0.0, chip=0.0)
HASTY = StoppingRule(target_ci=0.02, min_samples=10, max_samples=300, max_time_s=math.inf)
USUAL = StoppingRule(max_samples=300, max_time_s=math.inf)
FEWER = 500  # processes in a bank of a quick test, 2,000 otherwise

DESIGNS = {
    "one process": Design(same_chips=True, allowance=NOTHING),
    "one process, which differ by half a percent": Design(process_sigma=0.005, same_chips=True),
    "two processes, which differ by half a percent": Design(processes=2, process_sigma=0.005, same_chips=True),
    "three processes": Design(processes=3, process_sigma=0.01, same_chips=True, allowance=NOTHING),
    "eight processes": Design(processes=8, process_sigma=0.03, same_chips=True, allowance=NOTHING),
    "three processes on the same chips": Design(
        chips=2, processes=3, process_sigma=0.01, chip_sigma=0.1, same_chips=True, allowance=NOTHING
    ),
    "one chip, which differ by 2.5 percent": Design(processes=3, process_sigma=0.01, chip_sigma=0.025),
    "two chips, which differ by 2.5 percent": Design(chips=2, processes=2, process_sigma=0.01, chip_sigma=0.025),
    "three chips": Design(chips=3, chip_sigma=0.03, process_sigma=0.01, allowance=NOTHING),
    "five chips of three processes": Design(
        chips=5, processes=3, chip_sigma=0.02, process_sigma=0.02, allowance=NOTHING
    ),
}  # fmt: skip


def at_stop(series: Floats, rule: StoppingRule) -> Estimate:
    stops = (rule.decide(series[:n], 0.0) for n in looks())
    return next(stop.estimate for stop in stops if stop is not None)


@cache
def bank(name: str, count: int = 2000, rule: StoppingRule = HASTY) -> Bank:
    draw, median = PROCESSES[name]
    return Bank.of([at_stop(series, rule) for series in draw(np.random.default_rng(7))[:count]], median)


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", PROCESSES)
def test_intervals_hold_the_true_ratio(name: str, design: str):
    found = compared(bank(name), bank(name), DESIGNS[design], TRUTH, seed=1)
    assert coverage(found, TRUTH) >= ASKED


@pytest.mark.parametrize("design", DESIGNS)
def test_intervals_hold_the_true_ratio_of_unlike_sides(design: str):
    slow, fast = bank("autoregressive 0.7 gaussian_5", FEWER), bank("modes 70%, 5% apart", FEWER)
    found = compared(slow, fast, DESIGNS[design], TRUTH, seed=2)
    assert coverage(found, TRUTH) >= ASKED


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", PROCESSES)
def test_nothing_is_rarely_called_a_change_whatever_the_noise(name: str, design: str):
    found = compared(bank(name), bank(name), DESIGNS[design], 1.0, seed=3)
    assert share(found, "faster", "slower") <= 0.025


@pytest.mark.parametrize("design", DESIGNS)
def test_nothing_is_rarely_called_a_change(design: str):
    steady = bank("autoregressive 0.7 gaussian_1", FEWER, USUAL)
    found = compared(steady, steady, DESIGNS[design], 1.0, seed=3)
    assert share(found, "faster", "slower") <= 0.025


SHARP = {
    "one process": Design(same_chips=True),
    "three processes": Design(processes=3, same_chips=True),
    "noise between ten processes": Design(processes=10, process_sigma=0.01, same_chips=True),
    "noise between ten chips": Design(chips=10, chip_sigma=0.01),
}  # noise of 1 % at one level or another, and measured well enough for an interval within the region


@pytest.mark.parametrize("design", SHARP)
def test_nothing_is_called_the_same_where_intervals_allow_it(design: str):
    steady = bank("lognormal 0.01", rule=USUAL)
    found = compared(steady, steady, SHARP[design], 1.0, seed=5)
    assert width(found) < 0.02
    assert share(found, "same") >= 0.9


@pytest.mark.parametrize("design", SHARP)
@pytest.mark.parametrize("truth", [1.04, 1 / 1.04])
def test_four_percent_under_one_percent_of_noise_is_found(design: str, truth: float):
    steady = bank("lognormal 0.01", rule=USUAL)
    found = compared(steady, steady, SHARP[design], truth, seed=4)
    assert share(found, "faster" if truth > 1 else "slower") >= 0.9
    assert share(found, "slower" if truth > 1 else "faster") == 0.0
