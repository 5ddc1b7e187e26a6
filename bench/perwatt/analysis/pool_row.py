"""Rows of the same case on the same chip as one, every level of the measurement kept.

Raw samples are pooled as those of one run are, process by process. Where some row has none, rows are what is pooled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from statistics import fmean, median
from typing import Any

import numpy as np

from perwatt.analysis import levels
from perwatt.analysis.levels import Allowance, Units
from perwatt.analysis.pool_source import Line, Source, refuse_unlike
from perwatt.backends.base import AS_ONE
from perwatt.results import merge, samples
from perwatt.results.merge import Cells
from perwatt.results.project import FEW_EFFECTIVE, SEVERITY
from perwatt.results.schema import SCHEMA_VERSION, TIMED, Row, Status, columns, header_name
from perwatt.runner.part import Part

NOTHING = Allowance(process=0.0, chip=0.0)  # what was not measured is allowed for where rows are compared
LOGS = (
    "energy_j",
    "tflops_per_w",
    "tokens_per_j",
    "tflops_per_pct",
    "tokens_per_pct_s",
)  # with an interval of their own
INVERSE = (  # of the time
    "tflops", "gbps", "tokens_per_s", "tflops_per_chip", "tokens_per_s_per_chip", "mfu", "hfu", "roofline_fraction",
)  # fmt: skip
COMBINED: dict[str, Callable[[list[Any]], Any]] = {
    "started_at": min, "compile_cold_s": median, "compile_warm_s": median, "skew_s": max, "peak_bytes": max,
    "limiter": AS_ONE["limiter"], "power_limit_w": min, "sm_clock_mhz": median, "sm_clock_mhz_min": min,
    "mem_clock_mhz": median, "temp_c": max, "ecc": sum, "device_errors": sum, "unhealthy": AS_ONE["unhealthy"],
    "engine_busy": median, "held_bytes": max, "compilations": sum, "graph_breaks": sum, "cpu_fallbacks": sum,
    "power_w": fmean, "idle_w": fmean, "energy_j_net": fmean, "host_energy_j": fmean, "energy_time_s": median,
    "energy_window_s": sum, "energy_iters": sum, "energy_rel_sys": max, "power_util_min_pct": min,
    "power_util_avg_pct": fmean, "power_util_max_pct": max, "power_buckets": sum,
    "tokens_per_kwh": median,
    "suite": lambda seen: "+".join(dict.fromkeys(seen)), "case": lambda seen: seen[0],
}  # fmt: skip
OWN_FLAGS = {"within_run_only", "few_effective_samples"}  # that the pooled row gets by its own samples


def pooled(sources: Sequence[Source], run_id: str) -> tuple[Row, list[Line], list[str]]:
    """One row of several, lines of its raw samples, and names of columns that were left empty because they differ.

    Raises:
        InputError: the rows were not measured in the same way.
    """
    ran = [source for source in sources if source.row.status != Status.SKIPPED] or list(sources)
    status = max((Status(source.row.status) for source in ran), key=_severity)
    kept = [source for source in ran if Status(source.row.status) in TIMED] if status in TIMED else ran
    if status in TIMED:
        refuse_unlike(kept)
    rows = [source.row for source in kept]
    cells, differ = _common(rows)
    worked_out: Cells = {"schema_version": SCHEMA_VERSION, "run_id": run_id, "status": status} | _gate(rows)
    worked_out["error"] = _error(ran, status)
    lines: list[Line] = []
    if status in TIMED:
        times, lines = _timing(kept)
        worked_out |= times | _rates(rows, times["time_s"]) | _energy(rows)
    worked_out["flags"] = _flags(rows, worked_out) if status in TIMED else None
    cells |= worked_out
    allowed = columns()
    filled: Cells = {n: c if status in allowed[header_name(n)].statuses else None for n, c in cells.items()}
    row = Row(**filled)
    return row, lines, [header_name(name) for name in differ if name not in worked_out]


def _severity(status: Status) -> int:
    return SEVERITY.index(status) if status in SEVERITY else -1


def _error(sources: Sequence[Source], status: Status) -> str | None:
    """The reason of the worst run, with how many fared like it."""
    if status == Status.OK:
        return None
    worst = [source for source in sources if source.row.status == status]
    return f"in {len(worst)} of {len(sources)} runs ({worst[0].row.run_id} the first): {worst[0].row.error}"


def _common(rows: Sequence[Row]) -> tuple[Cells, list[str]]:
    """Cells that have a rule, and those in which all rows agree; the rest is empty and named."""
    cells, differ = Cells(), []
    for item in fields(Row):
        values = [getattr(row, item.name) for row in rows]
        known = [value for value in values if value is not None]
        if item.name in COMBINED:
            cells[item.name] = COMBINED[item.name](known) if known else None
        elif all(value == values[0] for value in values):
            cells[item.name] = values[0]
        else:
            cells[item.name] = None
            differ.append(item.name)
    return cells, differ


def _timing(sources: Sequence[Source]) -> tuple[Cells, list[Line]]:
    if not all(source.lines for source in sources):
        return _of_intervals([source.row for source in sources]), []
    parts, lines = [], []
    number = 0
    for source in sources:
        for process, own in _by_process(source.lines).items():
            for line in own:
                measured = samples.measured(line) | {"process": number}
                parts.append(Part(**measured, **_facts(source.row)))
                levels_of = {"from_run": source.row.run_id, "from_process": process, "chip_id": source.row.chip_id}
                lines.append(measured | levels_of)
            number += 1
    return merge.timing(parts), lines


def _by_process(lines: Iterable[Line]) -> dict[int, list[Line]]:
    """Lines of a row by the process that took them, those of several rounds together."""
    found: dict[int, list[Line]] = {}
    for line in lines:
        found.setdefault(line["process"], []).append(line)
    return found


def _facts(row: Row) -> Cells:
    names = ("warmup_s", "enqueue_s", "stop_reason", "timing_method")
    return {name: getattr(row, name) for name in names}


def _of_intervals(rows: Sequence[Row]) -> Cells:
    """Time of rows with intervals and no samples: what describes single samples is not known of all of them."""
    middle, lo, hi = _center(rows, "time_s")
    known: dict[str, list[Any]] = {
        name: [value for row in rows if (value := getattr(row, name)) is not None]
        for name in ("samples", "n_eff", "processes", "blocks", "warmup_s", "enqueue_s", "noise_floor", "stop_reason")
    }
    sums = {name: sum(known[name]) if known[name] else None for name in ("samples", "n_eff", "processes", "blocks")}
    return sums | {
        "time_s": middle, "time_s_lo": lo, "time_s_hi": hi, "time_s_mean": None, "time_s_stdev": None,
        "time_s_p10": None, "time_s_p90": None, "samples_digest": None,
        "noise_floor": max(known["noise_floor"], default=None),
        "warmup_s": median(known["warmup_s"]) if known["warmup_s"] else None,
        "enqueue_s": median(known["enqueue_s"]) if known["enqueue_s"] else None,
        "stop_reason": "; ".join(dict.fromkeys(known["stop_reason"])) or None,
    }  # fmt: skip


def _center(rows: Sequence[Row], name: str) -> tuple[float | None, float | None, float | None]:
    """Geometric mean of the rows that know the figure, with the interval that their scatter and their own make."""
    cells = [(getattr(row, name), getattr(row, f"{name}_lo"), getattr(row, f"{name}_hi")) for row in rows]
    known = [cell for cell in cells if cell[0] is not None and cell[0] > 0.0]
    if not known:
        return None, None, None
    log = np.log([cell[0] for cell in known])
    down = log - np.log([cell[1] or math.nan for cell in known])
    up = np.log([cell[2] or math.nan for cell in known]) - log
    one = np.zeros(len(known), dtype=np.int64)
    units = Units(group=one, chip=one, log=log, down=down, up=up, runs=np.ones(len(known)))
    found = levels.centers(units, 1, NOTHING)
    middle, below, above = float(found.log[0]), float(found.inner_down[0]), float(found.inner_up[0])
    if not math.isfinite(below) or not math.isfinite(above):
        return math.exp(middle), None, None
    return math.exp(middle), math.exp(middle - below), math.exp(middle + above)


def _rates(rows: Sequence[Row], time_s: float | None) -> Cells:
    """Rates by the pooled time: each is its row's work over its row's time."""
    cells: Cells = dict.fromkeys((*INVERSE, "usd_per_mtok", "ceiling_tflops", "ceiling_run_id", "ceiling_fraction"))
    for name in INVERSE:
        for row in rows:
            if getattr(row, name) is not None and row.time_s and time_s:
                cells[name] = getattr(row, name) * row.time_s / time_s
    if all(row.usd_per_hour == rows[0].usd_per_hour for row in rows) and time_s:
        costs = [row.usd_per_mtok / row.time_s * time_s for row in rows if row.usd_per_mtok and row.time_s]
        cells["usd_per_mtok"] = costs[0] if costs else None
    ceilings = [row for row in rows if row.ceiling_tflops is not None]
    if ceilings and cells["tflops"] is not None:
        best = max(ceilings, key=lambda row: row.ceiling_tflops or 0.0)
        cells |= {"ceiling_tflops": best.ceiling_tflops, "ceiling_run_id": best.ceiling_run_id}
        cells["ceiling_fraction"] = cells["tflops"] / best.ceiling_tflops
    return cells


def _energy(rows: Sequence[Row]) -> Cells:
    cells = Cells()
    for name in LOGS:
        cells[name], cells[f"{name}_lo"], cells[f"{name}_hi"] = _center(rows, name)
    return cells


def _gate(rows: Sequence[Row]) -> Cells:
    """The error nearest to, or furthest over, its bound in any run."""
    known = [row for row in rows if row.rel_err is not None and row.rel_err_bound]
    worst = max(known, key=lambda row: (row.rel_err or 0.0) / (row.rel_err_bound or 1.0), default=None)
    return {"rel_err": worst.rel_err if worst else None, "rel_err_bound": worst.rel_err_bound if worst else None}


def _flags(rows: Sequence[Row], cells: Cells) -> str | None:
    seen = dict.fromkeys(flag for row in rows for flag in (row.flags or "").split())
    flags = [flag for flag in seen if flag not in OWN_FLAGS]
    if cells["processes"] == 1:
        flags.append("within_run_only")
    if cells["n_eff"] is not None and cells["n_eff"] < FEW_EFFECTIVE:
        flags.append("few_effective_samples")
    return " ".join(flags) or None
