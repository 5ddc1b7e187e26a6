"""Rows of results to compare: whole ones, as a run would write them, with what matters said."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from perwatt.results import csvfile
from perwatt.results.samples import digest_of
from perwatt.results.schema import SCHEMA_VERSION, Row, Status, columns, header_name
from perwatt.spec import work

PLAIN: dict[str, Any] = {
    "schema_version": SCHEMA_VERSION, "run_id": "base", "started_at": "2026-01-02T03:04:05Z", "suite": "a", "seed": 0,
    "method": "direct", "impl": "torch", "impl_class": "eager", "backend": "cpu", "chip": "x", "placement": "device",
    "mode": "replicate", "replicas": 1, "world_size": 1, "devices_used": 1, "chips": 1.0, "devices_per_chip": 1,
    "host": "h", "status": "ok", "time_evidence": "measured", "energy_evidence": "none", "power_source": "none",
    "cache": "hot", "processes": 3, "samples": 300, "n_eff": 300.0, "torch": "2.13.0",
}  # fmt: skip


def row(number: int = 1, *, workload: str = "gemm", seconds: float = 1.0, spread: float = 0.002, **changes: Any) -> Row:
    """A row of one of many cases; ``spread`` is the relative half-width of its interval."""
    content = {"workload": workload, "pass": "fwd", "precision": {"name": "fp32"}, "params": {"m": number}}
    cells = PLAIN | {
        "case": f"{workload} {number}", "workload": workload, "pass_": "fwd", "precision": "fp32",
        "work": work.canonical(content), "match_key": work.match_key(content), "task_key": work.task_key(content),
        "protocol_key": work.protocol_key(cache=str(changes.get("cache", "hot")), method="direct"), "time_s": seconds,
        "time_s_lo": seconds * (1 - spread), "time_s_hi": seconds * (1 + spread),
    } | changes  # fmt: skip
    status = Status(cells["status"])
    if status != Status.OK:
        cells["error"] = cells.get("error") or "it broke"
    allowed = columns()
    return Row(**{name: cell for name, cell in cells.items() if status in allowed[header_name(name)].statuses})


def rows(count: int, *, seconds: float = 1.0, first: int = 1, **changes: Any) -> list[Row]:
    """Rows of so many cases."""
    return [row(number, seconds=seconds, **changes) for number in range(first, first + count)]


def write(folder: Path, name: str, found: Iterable[Row]) -> Path:
    """A CSV of these rows."""
    csvfile.write(found, folder / name)
    return folder / name


def run(folder: Path, series: dict[int, Sequence[Sequence[float]]], **changes: Any) -> Path:
    """A run's folder with results and raw samples: for each case its processes."""
    folder.mkdir(parents=True)
    made, kept = [], []
    for number, processes in series.items():
        everything = sorted(value for one in processes for value in one)
        median = everything[len(everything) // 2]
        lines = [_line(number, at, one) for at, one in enumerate(processes)]
        digest = digest_of(lines)
        facts = {"samples_digest": digest, "samples": len(everything), "processes": len(processes)}
        found = row(number, seconds=median, **facts, **changes)
        made.append(found)
        kept += [{"samples_digest": digest, "run_id": found.run_id} | line for line in lines]
    csvfile.write(made, folder / "results.csv")
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    return folder


def _line(number: int, process: int, seconds: Sequence[float]) -> dict[str, Any]:
    return {
        "case": f"case {number}", "impl": "torch", "process": process, "round": 0, "iters_per_sample": 1,
        "samples": list(seconds), "minus": [], "twin": [], "blocks": [at // 10 for at in range(len(seconds))],
    }  # fmt: skip
