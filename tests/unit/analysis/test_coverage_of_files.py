"""The same trials from files on: CSVs with raw samples beside them, read, checked and compared as those of runs are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import perwatt
from perwatt.analysis.gate import gate
from perwatt.analysis.gate_result import GateOptions
from perwatt.analysis.result import Comparison, Options
from perwatt.timing.effective import Floats
from perwatt.timing.stopping import StoppingRule
from support.runs import run_cases
from support.trials import TRIALS, coverage, share
from unit.analysis.test_coverage import ASKED, HASTY, TRUTH
from unit.timing.test_coverage import PROCESSES, looks

GATES = 100
ONLY_TIME = Options(metrics=("time_s",), track="best")


def stopped(name: str, rule: StoppingRule = HASTY) -> list[Floats]:
    """Samples of many processes of true median 1, each cut off where the rule stops it."""
    draw, median = PROCESSES[name]
    series = draw(np.random.default_rng(17)) / median
    return [one[: next(n for n in looks() if rule.decide(one[:n], 0.0) is not None)] for one in series]


def drawn(
    bank: list[Floats], rng: np.random.Generator, *, cases: int, count: int, sigma: float, scale: float = 1.0
) -> list[list[list[float]]]:
    """Samples of cases of so many processes each, which differ by ``sigma``; the true median is ``scale``."""
    chosen = rng.integers(0, len(bank), (cases, count))
    speed = scale * np.exp(sigma * rng.standard_normal((cases, count)))
    return [
        [(bank[at] * factor).tolist() for at, factor in zip(*case, strict=True)]
        for case in zip(chosen, speed, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "count", "sigma", "truth"),
    [
        ("lognormal 0.1", 1, 0.003, TRUTH),
        ("modes 55%, 5% apart", 3, 0.01, TRUTH),
        ("autoregressive 0.7 gaussian_5", 2, 0.003, 1.0),
    ],
)
def test_intervals_hold_the_true_ratio_from_the_files_on(
    tmp_path: Path, name: str, count: int, sigma: float, truth: float
):
    bank = stopped(name)
    rng = np.random.default_rng(1)
    a, b = (
        run_cases(tmp_path / name, drawn(bank, rng, cases=TRIALS, count=count, sigma=sigma, scale=scale))
        for name, scale in (("a", truth), ("b", 1.0))
    )
    for spread in ("samples", "interval"):
        found = perwatt.compare(perwatt.load(a), perwatt.load(b), options=ONLY_TIME)
        assert {pair.baseline.spread for pair in found.pairs} == {spread}
        assert {pair.baseline.runs for pair in found.pairs} == {count}
        judged(found, truth)
        for folder in (a, b):
            (folder / "samples.jsonl").unlink(missing_ok=True)


def judged(found: Comparison, truth: float) -> None:
    assert coverage(found, truth) >= ASKED
    assert share(found, "slower") <= 0.025
    assert truth > 1.0 or share(found, "faster", "slower") <= 0.025


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_gate_over_fifty_cases_rarely_fails_from_the_files_on(tmp_path: Path):
    """The trials of test_gate.py judge rows by their intervals; here raw samples lie beside them."""
    bank, failed = stopped("autoregressive 0.5 gaussian_1"), 0
    for number in range(GATES):
        rng = np.random.default_rng([23, number])
        now, before = (
            perwatt.load(run_cases(tmp_path / f"{name}{number}", drawn(bank, rng, cases=50, count=3, sigma=0.01)))
            for name in ("now", "before")
        )
        found = gate(now, before, GateOptions(limits={"time_s": 0.0}))
        assert len(found.checks) == 50
        failed += found.exit_code == 1
    assert failed <= 0.05 * GATES
