"""Rows from the journal: what it says of one case and impl, merged and worked out. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from perwatt.results import energy, limits, merge
from perwatt.results.limits import Limits
from perwatt.results.merge import Cells
from perwatt.results.schema import SCHEMA_VERSION, TIMED, Row, Status, columns, header_name
from perwatt.runner.journal import Event
from perwatt.runner.ledger import Key, Ledger
from perwatt.runner.part import Part
from perwatt.spec import work
from perwatt.timing import host

SEVERITY = (
    Status.OK, Status.UNSUPPORTED, Status.UNSTABLE, Status.INACCURATE, Status.TIMEOUT, Status.OOM, Status.RANK_FAILED,
    Status.CRASHED,
)  # fmt: skip
CLOCK_DROP = 0.9  # share of the usual clock under which it counts as having fallen
FEW_EFFECTIVE = 20.0  # n_eff under which an interval had to be widened (docs/method.md, Time)
FORBIDDEN = {"compilations": "compilations", "graph_breaks": "graph breaks", "cpu_fallbacks": "CPU fallbacks"}
SLOWED = {"thermal": "heat", "hw_slowdown": "a hardware limit"}


class Projection:
    """Rows of a run. Those that got nothing new since the last time are not worked out again."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[Key, tuple[tuple[int, ...], Row]] = {}

    def rows(self) -> dict[Key, Row]:
        """Rows of all that has an outcome, by case and impl, in the order of the suite."""
        return _with_ceilings(self._ledger, {key: self._row(key) for key in self._ledger.outcomes()})

    def _row(self, key: Key) -> Row:
        ledger = self._ledger
        state = (
            len(ledger.parts.get(key, ())), id(ledger.windows.get(key)), len(ledger.idles), id(ledger.sensors),
            ledger.late.get(key, 0),
        )  # fmt: skip
        known = self._known.get(key)
        if known is None or known[0] != state:
            known = self._known[key] = state, row(ledger, key)
        return known[1]


def rows(ledger: Ledger) -> list[Row]:
    """Rows of all that has an outcome, in the order of the suite."""
    return list(Projection(ledger).rows().values())


def row(ledger: Ledger, key: Key) -> Row:
    """The row of one case and impl, without what depends on other rows. The status decides which cells are filled."""
    run, case, parts = ledger.run, ledger.cases[key[0]], ledger.parts.get(key, [])
    cells = _identity(run, case, key[1], parts) | _place(run, case) | _software(run, ledger.envs.get(key, ledger.env))
    cells |= {name: case[name] for name in ("flops", "bytes", "tokens")}
    cells |= {"per_layer": "yes" if case["per_layer"] else None, "cache": case["cache"] or None}
    cells |= {"time_evidence": "measured", **energy.EMPTY}
    most = limits.of(cells, case["compute"])
    if cells["flops"] is not None:
        cells |= {"peak_tflops": most.peak_tflops, "peak_basis": most.peak_basis}
    cells |= merge.gate(parts) | merge.compiling(parts) | merge.health(parts, ledger.windows.get(key))
    if late := ledger.late.get(key):
        cells["device_errors"] = (cells["device_errors"] or 0) + late
    if any(part.samples for part in parts):
        cells |= merge.timing(parts)
        cells |= _rates(cells, run["asynchronous"])
        cells |= energy.cells(ledger.sensors, ledger.windows.get(key), ledger.idles, cells)
    status, error = _outcome(cells, parts, most, ledger.skipped.get(key, ""))
    flags = _flags(cells, parts, ledger.windows.get(key), ledger.idles) if status in TIMED else []
    cells |= {"status": status, "error": error or None, "flags": " ".join(flags) or None}
    allowed = columns()
    return Row(**{name: cell for name, cell in cells.items() if status in allowed[header_name(name)].statuses})


def _identity(run: Event, case: Event, impl: str, parts: list[Part]) -> Cells:
    method = parts[0].method if parts else "direct"
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run["run_id"],
        "started_at": run["started_at"],
        "suite": run["suite"]["name"],
        "case": case["name"],
        "workload": case["workload"],
        "work": case["work"],
        "match_key": work.key_of(case["work"]),
        "task_key": case["task_key"],
        "protocol_key": work.protocol_key(cache=case["cache"], method=method),
        "seed": run["options"]["seed"],
        "input_digest": merge.first(part.input_digest for part in parts),
        "pass_": case["pass"],
        "method": method,
        "precision": case["precision"],
        "impl": impl,
        "impl_class": merge.first(part.impl_class for part in parts) or case["impls"][impl],
        "path": merge.first(part.path for part in parts),
    }


def _place(run: Event, case: Event) -> Cells:
    """Each process on a device; they are whole chips only where no chip has another device."""
    device, arrangement = run["device"], Cells(case.get("arrangement", {}))
    world, per_chip = case.get("world", 1), device["devices_per_chip"]
    alone = "replicate" if case["placement"] == "device" else "shard"  # of one device both are true
    mode = case["mode"] if world > 1 else alone
    return arrangement | {
        "backend": run["backend"],
        "chip": device["chip"],
        "instance_type": device["instance_type"],
        "placement": case["placement"],
        "mode": mode,
        "replicas": world if mode == "replicate" else 1,
        "world_size": world,
        "devices_used": world,
        "devices_per_chip": per_chip,
        "chips": float(world // per_chip) if per_chip and world % per_chip == 0 else None,
        "parallel": case.get("parallel") or None,
        "lnc": device["lnc"],
    }


def _software(run: Event, env: Event) -> Cells:
    facts = env.get("record", {})
    return {
        "host": facts.get("host"),
        "env_id": env.get("env_id"),
        "torch": facts.get("libraries", {}).get("torch"),
        "numerics": _numerics(facts.get("libraries", {}).get("numerics", {})),
        "git_sha": facts.get("perwatt", {}).get("git_sha"),
    } | {name: run["device"][name] for name in ("driver", "runtime", "compiler")}


def _numerics(pins: dict[str, str]) -> str | None:
    """``accumulate=fp32 rounding=nearest``, in the order of names."""
    return " ".join(f"{name}={value}" for name, value in sorted(pins.items())) or None


def _rates(cells: Cells, asynchronous: bool) -> Cells:
    time_s, chips, copies, rates = cells["time_s"], cells["chips"], cells["replicas"], Cells()
    for rate, work_done, scale in (("tflops", "flops", 1e12), ("gbps", "bytes", 1e9), ("tokens_per_s", "tokens", 1.0)):
        if cells[work_done] is not None and time_s > 0:
            rates[rate] = copies * cells[work_done] / time_s / scale
            if chips and rate != "gbps":
                rates[f"{rate}_per_chip"] = rates[rate] / chips
    if asynchronous and cells["enqueue_s"] is not None:
        rates["bound"] = host.bound(time_s, cells["enqueue_s"], cells["busy_s"])
    if cells.get("peak_tflops") and "tflops" in rates and rates.get("bound") != "host":
        rates["mfu"] = rates.get("tflops_per_chip", rates["tflops"]) / cells["peak_tflops"]
        if (done := limits.operations(cells)) is not None:
            rates["hfu"] = rates["mfu"] * done / cells["flops"]
    return rates


def _outcome(cells: Cells, parts: list[Part], most: Limits, skipped: str) -> tuple[Status, str]:
    """The worst status of all parts; what was measured well may still not be trusted."""
    if not parts:
        return Status.SKIPPED, skipped
    worst = max(parts, key=lambda part: SEVERITY.index(Status(part.status)))
    if worst.status != Status.OK:
        return Status(worst.status), worst.error
    if not cells.get("samples"):
        return Status.CRASHED, "the worker sent a part without samples"
    trouble = _trouble(cells, most)
    return (Status.UNSTABLE if trouble else Status.OK), "; ".join(trouble)


def _trouble(cells: Cells, most: Limits) -> list[str]:
    found = [f"{cells[name]} {what} inside samples" for name, what in FORBIDDEN.items() if cells[name]]
    if cells["limiter"] in SLOWED:
        found.append(f"clocks were held down by {SLOWED[cells['limiter']]}")
    if cells["ecc"]:
        found.append(f"{cells['ecc']} memory errors that could not be corrected")
    if cells["device_errors"]:
        found.append(f"{cells['device_errors']} executions failed on the device")
    if cells["unhealthy"]:
        found.append(f"the driver calls unhealthy: {cells['unhealthy']}")
    if cells["time_s"] <= 0:
        found.append("implausible: the time is not above zero")
    if cells.get("mfu", 0.0) > 1.0:
        found.append(f"implausible: {cells['mfu']:.2f} times the peak of {cells['peak_tflops']:g} TFLOP/s")
    if most.gbps and cells["cache"] == "cold" and cells.get("gbps", 0.0) > most.gbps:
        found.append(f"implausible: {cells['gbps'] / most.gbps:.2f} times the memory's {most.gbps:g} GB/s")
    return found


def _flags(cells: Cells, parts: list[Part], window: Event | None, idles: list[Event]) -> list[str]:
    marks = {
        "host_bound": cells.get("bound") == "host",
        "within_run_only": cells["processes"] == 1,
        "few_effective_samples": cells["n_eff"] < FEW_EFFECTIVE,
        "throttled": cells["limiter"] in SLOWED,
        "clock_drop": _dropped(cells),
        "power_capped": cells["limiter"] == "power_cap",
        "straggler": merge.straggles(parts),
        "shared": any((part.health.get("others") or 0.0) > energy.SHARED for part in parts),
    }
    for name, there in energy.flags(cells, window, idles).items():
        marks[name] = marks.get(name, False) or there
    own = dict.fromkeys(flag for part in parts for flag in part.flags)
    return [name for name, there in marks.items() if there] + list(own)


def _dropped(cells: Cells) -> bool:
    """Whether clocks fell for a reason that nobody told."""
    low, usual = cells["sm_clock_mhz_min"], cells["sm_clock_mhz"]
    return cells["limiter"] in ("none", "unknown") and bool(low and usual) and low < CLOCK_DROP * usual


def _with_ceilings(ledger: Ledger, made: dict[Key, Row]) -> dict[Key, Row]:
    """The rows, each rate with the best GEMM of the same placement and formats beside it."""
    formats = {key: ledger.cases[key[0]]["compute"] for key in made}
    best: dict[Any, float] = {}
    for key, item in made.items():
        if item.workload == "gemm" and item.status == Status.OK and item.tflops and not _of_zeros(item):
            place = item.placement, formats[key]
            best[place] = max(item.tflops, best.get(place, 0.0))
    return {key: _with_ceiling(item, _ceiling(item, formats[key], best)) for key, item in made.items()}


def _ceiling(item: Row, compute: str, best: dict[Any, float]) -> float | None:
    cells = {name: getattr(item, name) for name in ("workload", "precision", "flops", "tokens", "work")}
    return limits.together(
        limits.shares(cells, compute), {name: rate for (place, name), rate in best.items() if place == item.placement}
    )


def _of_zeros(item: Row) -> bool:
    """Whether the data draws less power than any other, so that the rate is no ceiling for it."""
    data = json.loads(item.work or "{}").get("data", {})
    return bool(data.get("distribution") == "zeros")


def _with_ceiling(item: Row, ceiling: float | None) -> Row:
    if item.tflops is None or ceiling is None:
        return item
    return replace(item, ceiling_tflops=ceiling, ceiling_run_id=item.run_id, ceiling_fraction=item.tflops / ceiling)
