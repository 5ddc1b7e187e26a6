"""The same samples before pyperf and scipy: equal ratios, and verdicts that differ as docs/verdicts.md explains."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import perwatt
from perwatt.analysis.levels import Allowance
from perwatt.analysis.result import Options, Pair
from support.runs import run_folder

pyperf = pytest.importorskip("pyperf")
stats = pytest.importorskip("scipy.stats")

Floats = NDArray[np.float64]
ONLY_TIME = Options(metrics=("time_s",), track="best")


def noise(seed: int, count: int = 200, rho: float = 0.0, sigma: float = 0.01) -> Floats:
    """Noise of a first-order autoregression."""
    values = np.random.default_rng(seed).standard_normal(count)
    for i in range(1, count):
        values[i] = rho * values[i - 1] + math.sqrt(1 - rho * rho) * values[i]
    return sigma * values


def ours(path: Path, a: Floats, b: Floats) -> Pair:
    sides = [run_folder(path / name, {"torch": [values.tolist()]}) for name, values in (("a", a), ("b", b))]
    (pair,) = perwatt.compare(*sides, options=ONLY_TIME).pairs
    return pair


def benchmark(values: Floats) -> object:
    run = pyperf.Run(values.tolist(), metadata={"name": "case"}, collect_metadata=False)
    return pyperf.Benchmark([run])


def theirs(path: Path, a: Floats, b: Floats) -> str:
    """What ``pyperf compare_to`` prints."""
    files = [str(path / f"{name}.json") for name in "ab"]
    for file, values in zip(files, (a, b), strict=True):
        benchmark(values).dump(file)
    command = [sys.executable, "-c", "from pyperf.__main__ import main; main()", "compare_to", *files]
    env = {"PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout


@pytest.mark.parametrize("seed", range(5))
def test_point_ratios_are_equal(tmp_path: Path, seed: int):
    a, b = 1e-3 * np.exp(noise(seed, 101, sigma=0.2)), 0.7e-3 * np.exp(noise(seed + 100, 64, sigma=0.3))
    pair = ours(tmp_path, a, b)
    assert pair.ratio == pytest.approx(benchmark(a).median() / benchmark(b).median(), rel=1e-12)
    assert pair.ratio == pytest.approx(stats.scoreatpercentile(a, 50) / stats.scoreatpercentile(b, 50), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_intervals_of_one_process_are_like_a_bootstrap(tmp_path: Path, seed: int):
    a, b = np.exp(noise(seed, sigma=0.1)), np.exp(noise(seed + 50, sigma=0.1))
    sides = [run_folder(tmp_path / name, {"torch": [values.tolist()]}) for name, values in (("a", a), ("b", b))]
    options = Options(metrics=("time_s",), track="best", allowance=Allowance(process=0.0, chip=0.0))
    (pair,) = perwatt.compare(*sides, options=options).pairs
    found = stats.bootstrap(
        (a, b), lambda x, y, axis: np.median(x, axis) / np.median(y, axis), rng=np.random.default_rng(1),
        method="percentile", vectorized=True, n_resamples=2000,
    ).confidence_interval  # fmt: skip
    assert 0.8 < math.log(pair.hi / pair.lo) / math.log(found.high / found.low) < 1.6


def test_a_clear_change_is_one_for_all(tmp_path: Path):
    a, b = np.exp(noise(1)), np.exp(noise(2)) / 1.05
    assert ours(tmp_path, a, b).verdict == "faster"
    assert "1.05x faster" in theirs(tmp_path, a, b)


def test_a_small_change_is_significant_and_the_same(tmp_path: Path):
    a, b = np.exp(noise(1, 800)), np.exp(noise(2, 800)) / 1.003
    assert stats.ttest_ind(a, b).pvalue < 0.001
    assert "x faster" in theirs(tmp_path, a, b)
    assert ours(tmp_path, a, b).verdict == "same"


def test_memory_between_samples_is_a_change_to_a_t_test(tmp_path: Path):
    """Nothing changed; tests that take samples for independent call it a change in four of ten trials."""
    wrong, seed = 0, 0
    for seed in range(100):
        a, b = np.exp(noise(2 * seed, rho=0.8)), np.exp(noise(2 * seed + 1, rho=0.8))
        wrong += stats.ttest_ind(a, b).pvalue < 0.05
    assert wrong > 30
    seed = next(s for s in range(100) if _fooled(s))
    a, b = np.exp(noise(2 * seed, rho=0.8)), np.exp(noise(2 * seed + 1, rho=0.8))
    assert "not significant" not in theirs(tmp_path, a, b)
    assert ours(tmp_path, a, b).verdict in ("same", "unclear")


def _fooled(seed: int) -> bool:
    a, b = np.exp(noise(2 * seed, rho=0.8)), np.exp(noise(2 * seed + 1, rho=0.8))
    return bool(stats.ttest_ind(a, b).pvalue < 0.001)


def test_a_long_tail_moves_the_mean_and_not_the_median(tmp_path: Path):
    a, b = np.exp(noise(1)), np.exp(noise(2))
    b[::10] *= 1.6
    assert "1.06x slower" in theirs(tmp_path, a, b)
    assert ours(tmp_path, a, b).verdict == "same"


def test_few_samples_are_unclear_not_insignificant(tmp_path: Path):
    a, b = np.exp(noise(1, 12, sigma=0.1)), np.exp(noise(2, 12, sigma=0.1))
    assert "not significant" in theirs(tmp_path, a, b)
    assert ours(tmp_path, a, b).verdict == "unclear"
