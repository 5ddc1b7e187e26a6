"""Rows with operations and traffic, for rooflines."""

from __future__ import annotations

from typing import Any

from perwatt.results.schema import Row
from support.valid_rows import make

BYTES = 1e10
COUNT = iter(range(1, 10_000))


def line(intensity: float | None, seconds: float, workload: str = "gemm", **changes: Any) -> Row:
    """A row on one H100 that moves 10 GB, with so many operations for each byte."""
    flops = None if intensity is None else intensity * BYTES
    params = {"m": next(COUNT), "n": 3, "k": 4}
    work = {"workload": workload, "pass": "fwd", "precision": {"name": "bf16"}, "params": params}
    facts = {
        "chip": "h100-sxm", "devices_per_chip": 1, "cache": "cold", "bytes": BYTES, "gbps": BYTES / seconds / 1e9,
        "flops": flops, "tflops": flops and flops / seconds / 1e12, "tflops_per_chip": flops and flops / seconds / 1e12,
        "time_s": seconds, "time_s_lo": seconds * 0.99, "time_s_hi": seconds * 1.02, "case": f"{workload} {intensity}",
        "time_s_p10": seconds, "time_s_p90": seconds, "run_id": f"r{next(COUNT)}",
    }  # fmt: skip
    return make(work, **facts | changes)
