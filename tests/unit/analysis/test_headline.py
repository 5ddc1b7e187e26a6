"""The headline takes the time that goes with its energy where the two differ; the other track keeps the samples'."""

from __future__ import annotations

from pathlib import Path

import pytest

import perwatt
from perwatt.analysis.result import Comparison, Pair
from perwatt.results.schema import Row
from support.runs import compared, run_folder, timed

DRIFTED = {"flags": "thermal_drift", "energy_time_s": 1.1}
NAMED = "times of b are those of the energy window, which differ by over 2 %"


def pairs(found: Comparison, track: str) -> dict[str, Pair]:
    return {pair.metric: pair for pair in found.pairs if pair.track == track}


def rich(time_s: float, **changes: object) -> Row:
    """A row with every figure that follows from its time."""
    cells = {
        "tokens": 10.0, "tokens_per_s": 10.0 / time_s, "mfu": 0.4 / time_s, "usd_per_hour": 36.0,
        "purchase": "on_demand", "allocation": "whole", "tflops_per_pct": 2.0, "power_die_rule": "each",
        "peak_tflops": 1.0, "peak_basis": "vendor",
    }  # fmt: skip
    return timed(time_s, **{**cells, **changes})


def test_the_best_is_judged_by_the_time_in_its_energy_window(tmp_path: Path):
    found = compared(tmp_path, [rich(1.0)], [rich(1.0, **DRIFTED)])
    best = pairs(found, "best")
    assert best["time_s"].candidate.value == pytest.approx(1.1)
    for name in ("time_s", "tflops", "tokens_per_s", "mfu", "usd_per_mtok"):
        assert best[name].ratio == pytest.approx(1 / 1.1), name
        assert NAMED in best[name].reason
        assert "b is thermal_drift" in best[name].reason
    assert best["tflops_per_pct"].ratio == pytest.approx(1.0), "it comes from the window already"
    assert NAMED not in best["tflops_per_pct"].reason


def test_like_keeps_the_time_of_the_samples(tmp_path: Path):
    like = pairs(compared(tmp_path, [rich(1.0)], [rich(1.0, **DRIFTED)]), "like")["time_s"]
    assert like.ratio == pytest.approx(1.0)
    assert "b is thermal_drift" in like.reason


@pytest.mark.parametrize(("window", "ratio"), [(1.019, 1.0), (0.981, 1.0), (1.021, 1 / 1.021), (0.979, 1 / 0.979)])
def test_up_to_two_percent_the_samples_count(tmp_path: Path, window: float, ratio: float):
    found = compared(tmp_path, [rich(1.0)], [rich(1.0, energy_time_s=window)])
    assert pairs(found, "best")["time_s"].ratio == pytest.approx(ratio)


def test_a_drift_on_both_sides_cancels(tmp_path: Path):
    found = compared(tmp_path, [rich(1.0, **DRIFTED)], [rich(2.0, flags="thermal_drift", energy_time_s=2.2)])
    assert pairs(found, "best")["time_s"].ratio == pytest.approx(0.5)


def test_raw_samples_drift_alike(tmp_path: Path):
    series = [[1.0 + 0.001 * (n % 5) for n in range(60)] for _ in range(3)]
    a = run_folder(tmp_path / "a", {"torch": series})
    b = run_folder(tmp_path / "b", {"torch": series}, flags="thermal_drift", energy_time_s=1.002 * 1.2)
    pair = pairs(perwatt.compare(a, b), "best")["time_s"]
    assert pair.candidate.spread == "samples"
    assert pair.ratio == pytest.approx(1 / 1.2)


def test_the_half_that_did_not_choose_drifts_too(tmp_path: Path):
    series = [[1.0 + 0.001 * (n % 5) for n in range(60)]]
    slow = [[2.0 * seconds for seconds in series[0]]]
    drift = {"flags": "thermal_drift", "energy_time_s": 1.2}
    a = run_folder(tmp_path / "a", {"torch": series})
    b = run_folder(tmp_path / "b", {"torch": slow, "triton": series}, **drift)
    pair = pairs(perwatt.compare(a, b), "best")["time_s"]
    assert (pair.candidate.impl, pair.candidate.spread) == ("triton", "samples")
    assert pair.ratio == pytest.approx(1.002 / 1.2, rel=1e-3)
