"""Results of many trials with a known truth: each trial is a case, so that one comparison judges them all."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from perwatt.analysis.levels import Allowance
from perwatt.analysis.result import Comparison, Options
from perwatt.analysis.sides import Side
from perwatt.analysis.table import FILE, LINE, Rows
from perwatt.timing.statistics import Estimate

Floats = NDArray[np.float64]
TRIALS = 2000


@dataclass(frozen=True, kw_only=True)
class Design:
    """How a side is measured.

    Attributes:
        chips: of each side.
        processes: on each chip.
        chip_sigma: logarithmic standard deviation between chips.
        process_sigma: the same between processes on a chip.
        same_chips: whether both sides are measured on the same chips.
        allowance: of the comparison.
    """

    chips: int = 1
    processes: int = 1
    chip_sigma: float = 0.0
    process_sigma: float = 0.0
    same_chips: bool = False
    allowance: Allowance = field(default_factory=Allowance)


@dataclass(frozen=True, kw_only=True)
class Bank:
    """What many processes found, each at the stop of its own samples: medians with their intervals, true median 1."""

    median: Floats
    lo: Floats
    hi: Floats

    @classmethod
    def of(cls, found: list[Estimate], truth: float) -> Bank:
        """From estimates of one distribution with a known median."""
        return cls(**{name: np.array([getattr(one, name) for one in found]) / truth for name in ("median", "lo", "hi")})


def side(name: str, bank: Bank, design: Design, scale: float, rng: np.random.Generator, chips: Floats) -> Side:
    """A side of :data:`TRIALS` cases whose true median is ``scale``; ``chips`` are logarithms of the chips' speed."""
    shape = (TRIALS, design.chips, design.processes)
    process = rng.normal(0.0, 1.0, shape) * design.process_sigma
    effect = (scale * np.exp(chips[:, :, None] + process)).ravel()
    drawn = rng.integers(0, len(bank.median), effect.size)
    trial, chip, number = (index.ravel() for index in np.indices(shape))
    owner = "" if design.same_chips else name
    columns = {
        "run_id": [f"{name}-{c}-{p}" for c, p in zip(chip, number, strict=True)],
        "chip_id": [f"{owner}{c}" for c in chip],
        "match_key": [f"{t:016x}" for t in trial],
        "case": [f"trial {t}" for t in trial],
        "workload": ["gemm"] * effect.size,
    }
    fixed = {
        "task_key": "t", "protocol_key": "p", "placement": "device", "mode": "replicate", "impl": "torch",
        "impl_class": "eager", "chip": "x", "status": "ok", "time_evidence": "measured", "energy_evidence": "none",
        "precision": "fp32",
    }  # fmt: skip
    texts = columns | {key: [value] * effect.size for key, value in fixed.items()}
    ones = np.ones(effect.size)
    numbers = {
        "time_s": bank.median[drawn] * effect, "time_s_lo": np.maximum(bank.lo[drawn], 1e-9) * effect,
        "time_s_hi": bank.hi[drawn] * effect, "processes": ones, "replicas": ones, "devices_used": ones,
        FILE: np.zeros(effect.size, dtype=np.int32), LINE: np.arange(2, effect.size + 2),
    }  # fmt: skip
    table = pa.table({key: pa.array(value).dictionary_encode() for key, value in texts.items()} | numbers)
    return Side(name=name, rows=Rows(table, (f"{name}.csv",)))


def compared(a: Bank, b: Bank, design: Design, ratio: float, seed: int) -> Comparison:
    """Trials in which the candidate is truly ``ratio`` times as fast as the baseline."""
    import perwatt

    rng = np.random.default_rng(seed)
    own = [rng.normal(0.0, 1.0, (TRIALS, design.chips)) * design.chip_sigma for _ in range(2)]
    left = side("a", a, design, ratio, rng, own[0])
    right = side("b", b, design, 1.0, rng, own[0] if design.same_chips else own[1])
    options = Options(metrics=("time_s",), track="like", allowance=design.allowance)
    return perwatt.compare(left, right, options=options)


def coverage(found: Comparison, ratio: float) -> float:
    """Share of trials whose interval holds the truth."""
    assert len(found.pairs) == TRIALS
    held = [pair.lo is not None and pair.hi is not None and pair.lo <= ratio <= pair.hi for pair in found.pairs]
    return sum(held) / TRIALS


def share(found: Comparison, *verdicts: str) -> float:
    """Share of trials with one of these verdicts."""
    return sum(pair.verdict in verdicts for pair in found.pairs) / len(found.pairs)


def width(found: Comparison) -> float:
    """Median half-width of the intervals, as logarithm."""
    return float(np.median([math.log(pair.hi / pair.lo) / 2 for pair in found.pairs if pair.lo and pair.hi]))
