"""Gates over simulated runs with a known truth: how often they fail with nothing wrong, how often they find what is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from perwatt.analysis.gate import gate
from perwatt.analysis.gate_result import Gate, GateOptions
from perwatt.analysis.sides import Side
from perwatt.analysis.table import FILE, LINE, Floats, Rows
from perwatt.timing.statistics import Estimate, estimate, pooled
from perwatt.timing.stopping import StoppingRule
from unit.timing.test_coverage import looks

CASES = 50
GATES, FINDINGS = 400, 100  # gates with nothing wrong, and with something to find
MEMORY, NOISE = 0.5, 0.01  # of samples of a process: their autocorrelation, their standard deviation
MOST = 300  # samples of a process, where the stopping rule does not stop before
DRAWN = 2000  # processes, and cases of them, that are drawn once and used by all gates
RULE = StoppingRule(max_samples=MOST, max_time_s=math.inf)


def alarms(**options: Any) -> float:
    """Share of gates that fail; options are those of :func:`gates`."""
    return sum(one.exit_code == 1 for one in gates(count=GATES, **options)) / GATES


def found_share(*, regression: float, **options: Any) -> float:
    """Share of gates that fail the one case that got so much slower."""
    found = gates(count=FINDINGS, regression=regression, **options)
    return sum(any(check.case == "case 0" for check in one.failed) for one in found) / FINDINGS


def gates(
    *, count: int, processes: int, sigma: float, limit: float, change: float = 0.0, regression: float | None = None,
    machine: float = 0.0, normalize_by: str | None = None,
) -> Iterator[Gate]:  # fmt: skip
    """Gates over :data:`CASES` cases.

    Args:
        count: of gates.
        processes: of each side.
        sigma: logarithmic standard deviation between them.
        limit: of the time.
        change: by how much every case takes longer.
        regression: by how much the first case takes longer.
        machine: standard deviation of what all cases of a run have in common.
        normalize_by: yardstick.
    """
    rng = np.random.default_rng(11)
    options = GateOptions(limits={"time_s": limit}, normalize_by=normalize_by)
    for _ in range(count):
        slower = np.full(CASES, 1.0 + change) * np.exp(rng.normal(0.0, machine) if machine else 0.0)
        if regression is not None:
            slower[0] *= 1.0 + regression
        before = _side("base", processes, sigma, np.ones(CASES), rng)
        yield gate(_side("now", processes, sigma, slower, rng), before, options)


@cache
def _bank(processes: int, sigma: float) -> list[Estimate]:
    """What cases of true median 1 look like."""
    rng = np.random.default_rng(5)
    return [_estimate(rng, processes, sigma) for _ in range(DRAWN)]


def _estimate(rng: np.random.Generator, count: int, sigma: float) -> Estimate:
    drawn = _processes()
    effects = np.exp(rng.normal(0.0, 1.0, count) * sigma)
    chosen = rng.integers(0, DRAWN, count)
    seconds = [drawn[at] * effect for at, effect in zip(chosen, effects, strict=True)]
    return pooled(seconds) if count > 1 else estimate(seconds[0])


@cache
def _processes() -> list[Floats]:
    """Samples of processes of true median 1, each up to where the usual rule stops it."""
    noise = np.random.default_rng(3).normal(0.0, NOISE * np.sqrt(1 - MEMORY**2), (DRAWN, MOST))
    noise[:, 0] /= np.sqrt(1 - MEMORY**2)
    for at in range(1, MOST):
        noise[:, at] += MEMORY * noise[:, at - 1]
    return [one[: next(n for n in looks() if RULE.decide(one[:n], 0.0))] for one in np.exp(noise)]


def _side(name: str, processes: int, sigma: float, slower: Any, rng: np.random.Generator) -> Side:
    bank = _bank(processes, sigma)
    drawn = [bank[at] for at in rng.integers(0, DRAWN, CASES)]
    fixed = {
        "task_key": "t", "protocol_key": "p", "placement": "device", "mode": "replicate", "impl": "torch",
        "impl_class": "eager", "chip": "x", "host": "h", "status": "ok", "time_evidence": "measured",
        "energy_evidence": "none", "precision": "fp32", "run_id": name,
    }  # fmt: skip
    texts = {key: [value] * CASES for key, value in fixed.items()} | {
        "match_key": [f"{at:016x}" for at in range(CASES)],
        "case": [f"case {at}" for at in range(CASES)],
        "workload": ["gemm" if at == 1 else "mlp" for at in range(CASES)],
    }
    ones = np.ones(CASES)
    numbers = {
        "time_s": np.array([one.median for one in drawn]) * slower,
        "time_s_lo": np.array([one.lo for one in drawn]) * slower,
        "time_s_hi": np.array([one.hi for one in drawn]) * slower,
        "n_eff": np.array([one.n_eff for one in drawn]), "processes": ones * processes, "replicas": ones,
        "devices_used": ones, FILE: np.zeros(CASES, dtype=np.int32), LINE: np.arange(2, CASES + 2),
    }  # fmt: skip
    table = pa.table({key: pa.array(value).dictionary_encode() for key, value in texts.items()} | numbers)
    return Side(name=name, rows=Rows(table, (f"{name}.csv",)))
