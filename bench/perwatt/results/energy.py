"""Energy of a row, worked out from its window in the journal: joules, and both parts of their uncertainty.

Joules and percentages come from the window only. What the user declares, and the sheet's watts, have no window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

from perwatt.power import evaluate, meter, percent, steady
from perwatt.power.base import Facts
from perwatt.power.measured import Measured, Unusable
from perwatt.power.trace import Trace
from perwatt.results.merge import Cells
from perwatt.runner.journal import Event

SHARED = 0.05  # share of the device that others may use before a row is marked
DRIFT = 0.02  # of time in the window against that of the samples
IDLE_DRIFT = 0.05  # of power at rest from the start of a run to its end
EMPTY: Mapping[str, Any] = {"energy_evidence": "none", "power_source": "none"}
WITHOUT = {
    "headline": "no window of its own: only headline rows get one (--energy all)",
    "all": "its window was not reached: the run ended, or its budget",
}
"""Why a row has no window, by the mode of its run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Idle:
    """Power of the chips at rest.

    Attributes:
        watts: mean of the looks that were taken.
        definition: what rest means.
        drift: by how much the last look differs from the first, relative; None with fewer than two.
    """

    watts: float
    definition: str
    drift: float | None


def cells(sensors: Event, window: Event | None, idles: list[Event], row: Cells) -> Cells:
    """Energy cells of a row.

    Args:
        sensors: the run's ``sensors`` event; empty where it has none.
        window: the row's window, if it had one.
        idles: the run's looks at the device at rest.
        row: its other cells; time and work are needed.
    """
    mode = sensors.get("mode")
    if mode in ("declared", "tdp") and not window:  # what was measured before a resume stays measured
        return _stated(sensors, row)
    if not window:
        return {**EMPTY, "energy_note": sensors.get("reason") or WITHOUT.get(mode or "")}
    try:
        return _measured(sensors, window, idles, row)
    except Unusable as error:
        reason = str(error)
    except Exception as error:  # what a sensor left in the journal costs the energy of a row, not its time
        reason = f"nothing can be made of what was read: {type(error).__name__}: {' '.join(str(error).split())}"
    return {**EMPTY, "energy_note": reason, "power_sensor": _name(sensors)}


def _name(sensors: Event) -> str | None:
    facts = sensors.get("facts")
    return str(facts[0]["sensor"]) if facts else None


def _stated(sensors: Event, row: Cells) -> Cells:
    """Watts that nobody measured, times the time of the samples."""
    chips_worked = row.get("chips")
    if not (row.get("time_s") or 0.0) > 0.0:
        return dict(EMPTY)
    if not chips_worked:
        return {**EMPTY, "energy_note": "watts are a chip's, and part of this one idled"}
    watts = sensors["watts"] * chips_worked
    found: Cells = {
        "energy_evidence": "modeled", "power_source": sensors["mode"], "power_scope": sensors["scope"],
        "power_w": watts, "energy_note": sensors.get("reason") or None,
    }  # fmt: skip
    ends = {name: row[f"time_s{name}"] for name in ("_lo", "_hi")}
    joules = (watts * row["time_s"], *(None if end is None else watts * end for end in ends.values()))
    return found | _joules(joules, row)


def _measured(sensors: Event, window: Event, idles: list[Event], row: Cells) -> Cells:
    if reason := window["failed"] or window["ended"]:
        raise Unusable(reason)
    marks = [(float(at), float(count)) for at, count in window["marks"]]
    traces = [Trace.from_message(message) for message in window["traces"]]
    if not traces:
        raise Unusable(sensors.get("reason") or "no sensor was read")
    if not marks:
        raise Unusable("the load did not come to its end")
    own, sensed = traces[0], traces[1:] if window.get("metered") else traces  # of the chips, then of the host
    span = steady.steady(marks, marks[0][0], marks[-1][0], window["ramp_s"])
    found = _widened(evaluate.measured(own, span.start, span.end), window.get("shift_s", 0.0), own)
    work = steady.iterations_between(marks, found.start, found.end)
    iterations, time_s = work.iterations, found.seconds / work.iterations
    found = _uncertain(found, work.error / work.iterations)
    result: Cells = {
        "power_sensor": own.facts.sensor, "power_scope": own.facts.scope, "energy_window_s": found.seconds,
        "energy_iters": round(iterations), "energy_time_s": time_s,
    }  # fmt: skip
    if own.facts.quantity == "%":
        result |= _percent(own, found, iterations, sensors, row)
    else:
        result |= _watts(own, found, iterations, idles, row)
    if window.get("metered") and sensed and sensed[0].facts.quantity == "%":
        result |= _beside(sensed[0], found, marks, sensors["chips"], row)
    return result | _host(sensed[1:], found, iterations)


def _uncertain(found: Measured, relative: float) -> Measured:
    """The same with another independent part in its interval, relative and 95 %."""
    below = math.hypot(found.total - found.lo, relative * found.total)
    above = math.hypot(found.hi - found.total, relative * found.total)
    return replace(found, lo=max(0.0, found.total - below), hi=found.total + above)


def _widened(found: Measured, shift_s: float, trace: Trace) -> Measured:
    """The same, where the sensor's clock is only known to so many seconds."""
    joules = meter.shift_j(trace, found.start, found.end, shift_s) if shift_s else 0.0
    return _uncertain(found, joules / found.total)


def _watts(trace: Trace, found: Measured, iterations: float, idles: list[Event], row: Cells) -> Cells:
    facts, idle = trace.facts, _idle(idles, trace.facts.sensor, trace.facts.channels)
    joules = found.total / iterations, found.lo / iterations, found.hi / iterations
    cells: Cells = {
        "energy_evidence": "measured", "power_source": facts.source, "power_w": found.mean,
        "energy_rel_sys": facts.rel_sys, "energy_note": facts.note or None,
    }  # fmt: skip
    if idle:
        cells |= {"idle_w": idle.watts, "idle_def": idle.definition}
        net = joules[0] - idle.watts * found.seconds / iterations
        cells["energy_j_net"] = net if net > 0 else None
    cells |= _joules(joules, row)
    limit = row.get("power_limit_w")
    if limit and facts.scope == "gpu_board":  # the chip's own percentage; a module's Grace is not under the GPU's limit
        share = 100.0 / limit
        scaled = Measured(start=found.start, end=found.end, total=found.total * share, lo=found.lo * share,
                          hi=found.hi * share)  # fmt: skip
        cells |= {"power_util_avg_pct": scaled.mean / (row.get("chips") or 1.0), "power_die_rule": "limit"}
        cells |= _per_percent(scaled, iterations, row)
    return cells


def _percent(trace: Trace, found: Measured, iterations: float, sensors: Event, row: Cells) -> Cells:
    """Percentages and work per percent-second; watts only through a calibration or a named assumption."""
    facts, count = trace.facts, sensors["chips"]
    cells: Cells = {"energy_evidence": "none", "power_source": "none", "energy_note": facts.note or None}
    cells |= _relative(facts, found, iterations, count, row)
    try:
        watts = percent.watts(facts, found, row["chip"], count, sensors["settings"])
    except Unusable as error:  # percentages need no calibration
        return cells | {"energy_note": "; ".join(filter(None, (str(error), facts.note)))}
    if watts is None:
        return cells
    joules = watts.total / iterations, watts.lo / iterations, watts.hi / iterations
    cells |= {
        "energy_evidence": watts.evidence, "power_source": watts.source, "power_w": watts.mean,
        "power_assumption": watts.assumption, "power_scope": watts.scope, "energy_rel_sys": watts.rel_sys,
        "energy_note": watts.note or None,
    }  # fmt: skip
    return cells | _joules(joules, row)


def _relative(facts: Facts, found: Measured, iterations: float, count: int, row: Cells) -> Cells:
    """Columns of percentages of so many chips."""
    low, high = (None if end is None else end / count for end in (found.low, found.high))
    cells: Cells = {
        "power_util_min_pct": low, "power_util_avg_pct": found.mean / count, "power_util_max_pct": high,
        "power_buckets": found.buckets, "power_die_rule": percent.rule(facts),
    }  # fmt: skip
    return cells | _per_percent(found, iterations, row, facts.dies)


def _beside(trace: Trace, span: Measured, marks: list[steady.Mark], count: int, row: Cells) -> Cells:
    """Percentages of a window whose joules an outside meter tells; where there are none, the joules stay."""
    try:
        found = evaluate.measured(trace, span.start, span.end)
    except Unusable:
        return {}
    work = steady.iterations_between(marks, found.start, found.end)
    return _relative(trace.facts, _uncertain(found, work.error / work.iterations), work.iterations, count, row)


def _per_percent(found: Measured, iterations: float, row: Cells, dies: int = 1) -> Cells:
    """Work per percent-second: ``found`` is in percent x seconds, summed over chips.

    Of ``dies`` only the larger one's is known, so that the chip's may be as little as its share.
    """
    cells: Cells = {}
    for column, work, scale in (("tflops_per_pct", "flops", 1e12), ("tokens_per_pct_s", "tokens", 1.0)):
        if row.get(work) is not None and found.total > 0 and not (column.startswith("tokens") and row["per_layer"]):
            done = row.get("replicas", 1) * row[work] / scale * iterations
            cells |= {column: done / found.total, f"{column}_lo": done / found.hi,
                      f"{column}_hi": dies * done / found.lo if found.lo > 0 else None}  # fmt: skip
    return cells


def _joules(joules: tuple[float, float | None, float | None], row: Cells) -> Cells:
    """Energy of an iteration of all copies, and work per joule."""
    each, lo, hi = joules
    cells: Cells = {"energy_j": each, "energy_j_lo": lo, "energy_j_hi": hi}
    for column, work, scale in (("tflops_per_w", "flops", 1e12), ("tokens_per_j", "tokens", 1.0)):
        if row.get(work) is not None and not (column == "tokens_per_j" and row["per_layer"]):
            done = row.get("replicas", 1) * row[work] / scale
            cells |= {column: done / each, f"{column}_lo": done / hi if hi else None,
                      f"{column}_hi": done / lo if lo else None}  # fmt: skip
    if "tokens_per_j" in cells:
        cells["tokens_per_kwh"] = cells["tokens_per_j"] * 3.6e6
    return cells


def _host(traces: list[Trace], found: Measured, iterations: float) -> Cells:
    """Joules of the host over the same span; what its sensor does not say is missing, and costs the row nothing."""
    for trace in traces:
        try:
            host = evaluate.measured(trace, found.start, found.end)
        except Unusable:
            continue
        return {"host_energy_j": host.mean * found.seconds / iterations}
    return {}


def _idle(events: list[Event], sensor: str, channels: Sequence[str] | None = None) -> Idle | None:
    """Power at rest by the looks that can be used: of one sensor, of the same chips, by one definition.

    A run that was resumed may have looked by another sensor, or by another definition; the first one holds.
    """
    watts, definition = [], ""
    for event in events:
        if not event["traces"]:
            continue
        trace = Trace.from_message(event["traces"][0])
        channels = channels or (trace.facts.channels if trace.facts.sensor == sensor else None)
        if (trace.facts.sensor, trace.facts.channels) != (sensor, channels):
            continue
        if definition not in ("", event["definition"]):
            continue
        try:
            watts.append(evaluate.measured(trace, event["start"], event["end"]).mean)
        except Unusable:
            continue
        definition = event["definition"]
    if not watts:
        return None
    drift = abs(watts[-1] - watts[0]) / watts[0] if len(watts) > 1 and watts[0] > 0 else None
    return Idle(watts=mean(watts), definition=definition, drift=drift)


def flags(row: Cells, window: Event | None, idles: list[Event]) -> dict[str, bool]:
    """Marks that energy gives a row; ``shared`` where others used the device in the window."""
    idle = _idle(idles, row["power_sensor"]) if row.get("idle_w") is not None else None
    moved = row.get("energy_time_s") and row.get("time_s") and abs(row["energy_time_s"] / row["time_s"] - 1.0) > DRIFT
    others = window.get("others") if window and row.get("energy_time_s") else None
    return {
        "shared": (others or 0.0) > SHARED,
        "thermal_drift": bool(moved),
        "idle_drift": bool(idle and idle.drift is not None and idle.drift > IDLE_DRIFT),
    }
