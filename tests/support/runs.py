"""Rows and run folders with given times."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import perwatt
from perwatt.analysis.result import Comparison, Options
from perwatt.analysis.sides import Side
from perwatt.results import csvfile, samples
from perwatt.results.schema import Row
from perwatt.runner.part import Part
from perwatt.timing import statistics
from support.valid_rows import WORK, make


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
        row, own = _measured(path.name, impl, processes, **changes)
        rows.append(row)
        lines += own
    csvfile.write(rows, path / "results.csv")
    (path / "samples.jsonl").write_text("".join(lines))
    return perwatt.load(path)


def run_cases(path: Path, cases: Sequence[Sequence[Sequence[float]]]) -> Path:
    """A run's folder with raw samples of many cases, one after the other, each by process."""
    path.mkdir()
    rows, lines = [], []
    for number, processes in enumerate(cases):
        row, own = _measured(path.name, "torch", processes, {**WORK, "params": {"m": number, "n": 1, "k": 1}})
        rows.append(row)
        lines += own
    csvfile.write(rows, path / "results.csv")
    (path / "samples.jsonl").write_text("".join(lines))
    return path


def _measured(
    run_id: str, impl: str, processes: Sequence[Sequence[float]], work: dict[str, Any] = WORK, **changes: Any
) -> tuple[Row, list[str]]:
    """The row of these samples, and their lines of ``samples.jsonl``."""
    parts = [part(impl, seconds, number) for number, seconds in enumerate(processes)]
    found, digest = statistics.pooled(processes), samples.samples_digest(parts)
    cells = {
        "time_s_lo": found.lo, "time_s_hi": found.hi, "samples": found.n, "samples_digest": digest,
        "n_eff": found.n_eff, "processes": len(parts), "run_id": run_id, **changes,
    }  # fmt: skip
    head = {"samples_digest": digest, "run_id": run_id}
    measured = [{name: message[name] for name in samples.MEASURED} for message in (one.message() for one in parts)]
    return timed(found.median, work, impl=impl, **cells), [json.dumps(head | one) + "\n" for one in measured]


def compared(folder: Path, *sides: Sequence[Row], **options: Any) -> Comparison:
    """Sides of these rows compared, each from a CSV; they and their runs are called a, b, c and d."""
    read = []
    for name, rows in zip("abcd", sides, strict=False):
        own = [row if row.run_id != "r1" else replace(row, run_id=name) for row in rows]
        csvfile.write(own, folder / f"{name}.csv")
        read.append(perwatt.load(folder / f"{name}.csv"))
    return perwatt.compare(*read, options=Options(**options))
