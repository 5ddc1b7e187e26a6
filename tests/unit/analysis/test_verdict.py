"""Words for intervals, and what many of them together may be called."""

from __future__ import annotations

import math

import numpy as np
import pytest

from perwatt.analysis.verdict import Ratio, holm, judge, p_value


@pytest.mark.parametrize(
    ("lo", "hi", "region", "verdict"),
    [
        (1.021, 1.1, 0.02, "faster"),
        (1.02, 1.1, 0.02, "unclear"),
        (0.9, 0.979, 0.02, "slower"),
        (0.9, 0.98, 0.02, "unclear"),
        (0.98, 1.02, 0.02, "same"),
        (0.979, 1.02, 0.02, "unclear"),
        (0.5, 2.0, 0.02, "unclear"),
        (1.0, 1.0, 0.0, "same"),
        (1.001, 1.1, 0.0, "faster"),
        (None, None, 0.02, "unclear"),
        (1.1, None, 0.02, "faster"),
        (0.99, None, 0.02, "unclear"),
        (0.0, 0.9, 0.02, "slower"),
    ],
)
def test_words(lo: float | None, hi: float | None, region: float, verdict: str):
    assert judge(Ratio(ratio=1.0, lo=lo, hi=hi), region) == verdict


@pytest.mark.parametrize("region", [-0.1, 1.0, math.nan])
def test_a_region_that_is_none(region: float):
    with pytest.raises(ValueError, match="expected 0 to 1"):
        judge(Ratio(ratio=1.0, lo=1.0, hi=1.0), region)


def test_p_values_are_those_of_the_interval():
    half = 1.959964 * 0.01
    lower = Ratio(ratio=0.97, lo=0.97 * math.exp(-half), hi=0.97 * math.exp(half))
    assert p_value(lower) == pytest.approx(0.5 * math.erfc(-math.log(0.97) / 0.01 / math.sqrt(2)), rel=1e-4)
    assert p_value(lower, bound=0.97) == pytest.approx(0.5)
    assert p_value(lower, bound=0.97 * math.exp(-half)) == pytest.approx(0.975, abs=1e-4)
    assert p_value(lower, bound=0.97 * math.exp(half)) == pytest.approx(0.025, abs=1e-4)


def test_p_values_where_nothing_tells():
    assert p_value(Ratio(ratio=0.5, lo=None, hi=None)) == 1.0
    assert p_value(Ratio(ratio=0.5, lo=0.5, hi=0.5)) == 0.0
    assert p_value(Ratio(ratio=2.0, lo=2.0, hi=2.0)) == 1.0


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.04]) == [True]
    assert holm([0.04, 0.5]) == [False, False]
    assert holm([]) == []


def test_holm_keeps_the_chance_of_any_false_alarm():
    """Over 50 true hypotheses any is rejected in at most 5 % of trials, and a plain test would in 92 %."""
    p_values = np.random.default_rng(1).random((4000, 50))
    alarms = np.mean([any(holm(row)) for row in p_values.tolist()])
    assert 0.035 < alarms < 0.06
    assert np.mean((p_values <= 0.05).any(axis=1)) > 0.9
