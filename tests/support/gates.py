"""Gates over simulated runs with a known truth: how often they fail with nothing wrong, how often they find what is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from perwatt.analysis.gate import gate
from perwatt.analysis.gate_result import Gate, GateOptions
from perwatt.analysis.sides import Side
from perwatt.analysis.table import FILE, LINE, Rows
from perwatt.timing.statistics import Estimate, estimate, pooled

CASES, GATES = 50, 100
SAMPLES, MEMORY, NOISE = 60, 0.5, 0.01  # of a process: samples, their autocorrelation, their standard deviation
DRAWN = 2000  # cases that are drawn once, and used by all gates


def alarms(**options: Any) -> float:
    """Share of gates that fail; options are those of :func:`gates`."""
    return sum(one.exit_code == 1 for one in gates(**options)) / GATES


def found_share(*, regression: float, **options: Any) -> float:
    """Share of gates that fail the one case that got so much slower."""
    found = gates(regression=regression, **options)
    return sum(any(check.case == "case 0" for check in one.failed) for one in found) / GATES


def gates(
    *, processes: int, sigma: float, limit: float, change: float = 0.0, regression: float | None = None,
    machine: float = 0.0, normalize_by: str | None = None,
) -> Iterator[Gate]:  # fmt: skip
    """Gates over :data:`CASES` cases.

    Args:
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
    for _ in range(GATES):
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


def _estimate(rng: np.random.Generator, processes: int, sigma: float) -> Estimate:
    noise = rng.normal(0.0, NOISE * np.sqrt(1 - MEMORY**2), (processes, SAMPLES))
    noise[:, 0] /= np.sqrt(1 - MEMORY**2)
    for at in range(1, SAMPLES):
        noise[:, at] += MEMORY * noise[:, at - 1]
    seconds = np.exp(noise + rng.normal(0.0, 1.0, (processes, 1)) * sigma)
    return pooled(list(seconds)) if processes > 1 else estimate(seconds[0])


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
