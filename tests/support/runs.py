"""Rows and run folders with given times."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import perwatt
from perwatt.analysis.sides import Side
from perwatt.results import csvfile, samples
from perwatt.results.schema import Row
from perwatt.runner.part import Part
from perwatt.timing import statistics
from support.rows import WORK, make


def timed(time_s: float, work: dict[str, Any] = WORK, rel: float = 0.001, **changes: Any) -> Row:
    """A row with that time, an interval of ``rel`` to both sides, and rates that fit."""
    times = {"time_s": time_s, "time_s_lo": time_s * (1 - rel), "time_s_hi": time_s * (1 + rel)}
    cells = {
        "time_s_p10": None, "time_s_p90": None, "flops": 48.0, "tflops": 48.0 / time_s / 1e12, "processes": 1,
        "chip_id": "c1", **times, **changes,
    }  # fmt: skip
    if changes.get("replicas", 1) != 1 and "tflops" not in changes:
        cells["tflops"] *= changes["replicas"]
    return make(work, **cells)


def part(impl: str, seconds: Sequence[float], process: int = 0) -> Part:
    return Part(
        case="c", impl=impl, process=process, samples=list(seconds), blocks=[n // 5 for n in range(len(seconds))],
        iters_per_sample=1,
    )  # fmt: skip


def run_folder(path: Path, impls: Mapping[str, Sequence[Sequence[float]]], **changes: Any) -> Side:
    """A run's folder with raw samples by impl and process."""
    path.mkdir()
    rows, lines = [], []
    for impl, processes in impls.items():
        parts = [part(impl, seconds, number) for number, seconds in enumerate(processes)]
        found, digest = statistics.pooled(processes), samples.samples_digest(parts)
        interval = {"time_s_lo": found.lo, "time_s_hi": found.hi, "samples": found.n, "samples_digest": digest}
        rows.append(timed(found.median, impl=impl, run_id=path.name, processes=len(parts), **interval, **changes))
        for one in parts:
            head = {"samples_digest": digest, "run_id": path.name}
            measured = {name: one.message()[name] for name in samples.MEASURED}
            lines.append(json.dumps(head | measured) + "\n")
    csvfile.write(rows, path / "results.csv")
    (path / "samples.jsonl").write_text("".join(lines))
    return perwatt.load(path)
