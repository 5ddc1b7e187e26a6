"""JSON of pytest-benchmark (``--benchmark-json``, ``--benchmark-save``): seconds of one iteration.

Format: https://pytest-benchmark.readthedocs.io, and what version 5 writes. With ``--benchmark-save-data`` each
benchmark has its samples, and only then can the row have an interval. What a benchmark computes the file does not
say, so rows have no key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from perwatt.errors import InputError
from perwatt.results.imports.base import Format, Given, Imported, chip_of, loaded, number, of_kind, row, run_id
from perwatt.results.schema import Row
from perwatt.timing.statistics import estimate, summary

NAME = "pytest-benchmark"
WORKLOAD = "benchmark"


def read(given: Given) -> Imported:
    """A row of each benchmark."""
    content = of_kind(given, loaded(given), dict, "the document")
    benchmarks = of_kind(given, content.get("benchmarks"), list, "benchmarks")
    if not benchmarks:
        raise InputError("found no benchmark, expected at least one", file=given.file, field="benchmarks")
    machine = content.get("machine_info")
    common = _common(given, content, machine if isinstance(machine, dict) else {})
    rows = [_row(given, one, f"benchmarks[{at}]", common) for at, one in enumerate(benchmarks)]
    bare = sum(one.time_s_lo is None for one in rows)
    notes = [f"{bare} of {len(rows)} rows have no interval: their samples were not saved (--benchmark-save-data)"]
    return Imported(rows=tuple(rows), notes=tuple(notes if bare else ()))


def _common(given: Given, content: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, Any]:
    cpu = machine.get("cpu")
    names = [cpu.get("brand_raw") or cpu.get("brand")] if isinstance(cpu, dict) else []
    named = next((name for name in [*names, machine.get("processor")] if isinstance(name, str) and name), None)
    started = _utc(content.get("datetime"))
    node = machine.get("node")
    return {
        "run": run_id(given.path, NAME), "chip": chip_of(given, named), "started_at": started,
        "source_date": started[:10] if started else None,
        "host": hashlib.sha256(f"perwatt host {node}".encode()).hexdigest()[:16] if node else None,
    }  # fmt: skip


def _utc(text: Any) -> str | None:
    """The time as it stands, if it says that it is in UTC."""
    try:
        return text if datetime.fromisoformat(text).utcoffset() == timedelta(0) else None
    except (TypeError, ValueError):
        return None


def _row(given: Given, one: Any, field: str, common: Mapping[str, Any]) -> Row:
    benchmark = of_kind(given, one, dict, field)
    case = of_kind(given, benchmark.get("fullname") or benchmark.get("name"), str, f"{field}.name")
    stats = of_kind(given, benchmark.get("stats"), dict, f"{field}.stats")
    place = f"{field}.stats"
    middle = number(given, stats, "median", place, above_zero=True)
    rounds = int(number(given, stats, "rounds", place, above_zero=True))
    mean, deviation = (number(given, stats, name, place) for name in ("mean", "stddev"))
    samples = _samples(given, stats, place, middle)
    flags = ["within_run_only"]
    cells: dict[str, Any] = {}
    if samples:
        found, outer = estimate(samples), summary(samples)
        flags += ["few_effective_samples"] if found.n_eff < 20 else []
        cells = {"n_eff": found.n_eff, "time_s_p10": outer.p10, "time_s_p90": outer.p90}
        if len(samples) > 1:
            cells |= {"time_s_lo": found.lo, "time_s_hi": found.hi}
    return row(
        NAME, case=case, workload=WORKLOAD, time_s=middle, time_s_mean=mean,
        time_s_stdev=deviation if rounds > 1 else None, samples=rounds, processes=1, flags=" ".join(flags),
        iters_per_sample=int(number(given, stats, "iterations", place, above_zero=True)),
        printed=f"median {middle!r} s, mean {mean!r} s, stddev {deviation!r} s, {rounds} rounds", **common, **cells,
    )  # fmt: skip


def _samples(given: Given, stats: Mapping[str, Any], field: str, middle: float) -> list[float]:
    """Saved samples, whose median has to be the one beside them; none where they were not saved."""
    data = stats.get("data") or []
    values = [
        number(given, {f"data[{at}]": value}, f"data[{at}]", field, above_zero=True)
        for at, value in enumerate(of_kind(given, data, list, f"{field}.data"))
    ]
    if values and abs(estimate(values).median - middle) > 1e-9 * middle:
        message = f"found a median of {middle}, data gives {estimate(values).median}: the file was changed"
        raise InputError(message, file=given.file, field=f"{field}.median")
    return values


FORMAT = Format(
    name=NAME,
    doc="JSON of pytest-benchmark",
    detects=lambda text: text.lstrip().startswith("{") and ('"machine_info"' in text or '"benchmarks"' in text),
    read=read,
)
