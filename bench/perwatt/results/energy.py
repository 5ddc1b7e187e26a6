"""Energy of a row, worked out from its window in the journal: joules, and both parts of their uncertainty.

Joules and percentages come from the window only. What the user declares, and the sheet's watts, have no window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from perwatt.power import evaluate, meter, percent, steady
from perwatt.power.measured import Measured, Unusable
from perwatt.power.trace import Trace
from perwatt.results import efficiency
from perwatt.results.idle import idle
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
UNMETERED: Event = {"metered": False, "unmetered": "", "shift_s": 0.0}
"""What a window says of an outside meter that is left out."""


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
        return _seen(sensors, window, idles, row)
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
    lo, hi = (None if (end := row[name]) is None else watts * end for name in ("time_s_lo", "time_s_hi"))
    return found | efficiency.joules(watts * row["time_s"], lo, hi, row)


def _seen(sensors: Event, window: Event, idles: list[Event], row: Cells) -> Cells:
    """By the outside meter if there is one; what that does not see, by the run's own sensor, and the row says so."""
    if reason := window["failed"] or window["ended"]:
        raise Unusable(reason)
    own = window["traces"][1:] if window.get("metered") else []
    if not own:
        return _measured(sensors, window, idles, row)
    try:
        return _measured(sensors, window, idles, row)
    except Unusable as error:
        silent = f"not by the outside meter: {error}"
    try:
        found = _measured(sensors, {**window, **UNMETERED, "traces": own}, idles, row)
    except Unusable as error:
        raise Unusable(f"{silent}; {error}") from None
    return found | {"energy_note": "; ".join(filter(None, (silent, found["energy_note"])))}


def _measured(sensors: Event, window: Event, idles: list[Event], row: Cells) -> Cells:
    if reason := window.get("unmetered"):
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
    facts, rest = trace.facts, idle(idles, trace.facts.sensor, trace.facts.channels)
    joules = found.total / iterations, found.lo / iterations, found.hi / iterations
    cells: Cells = {
        "energy_evidence": "measured", "power_source": facts.source, "power_w": found.mean,
        "energy_rel_sys": facts.rel_sys, "energy_note": facts.note or None,
    }  # fmt: skip
    if rest:
        cells |= {"idle_w": rest.watts, "idle_def": rest.definition}
        net = joules[0] - rest.watts * found.seconds / iterations
        cells["energy_j_net"] = net if net > 0 else None
    cells |= efficiency.joules(*joules, row)
    if facts.scope == "gpu_board":  # the chip's own percentage; a module's Grace is not under the GPU's limit
        cells |= efficiency.of_limit(found, iterations, row)
    return cells


def _percent(trace: Trace, found: Measured, iterations: float, sensors: Event, row: Cells) -> Cells:
    """Percentages and work per percent-second; watts only through a calibration or a named assumption."""
    facts, count = trace.facts, sensors["chips"]
    cells: Cells = {"energy_evidence": "none", "power_source": "none", "energy_note": facts.note or None}
    cells |= efficiency.relative(facts, found, iterations, count, row)
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
    return cells | efficiency.joules(*joules, row)


def _beside(trace: Trace, span: Measured, marks: list[steady.Mark], count: int, row: Cells) -> Cells:
    """Percentages of a window whose joules an outside meter tells; where there are none, the joules stay."""
    try:
        found = evaluate.measured(trace, span.start, span.end)
    except Unusable:
        return {}
    work = steady.iterations_between(marks, found.start, found.end)
    found = _uncertain(found, work.error / work.iterations)
    return efficiency.relative(trace.facts, found, work.iterations, count, row)


def _host(traces: list[Trace], found: Measured, iterations: float) -> Cells:
    """Joules of the host over the same span; what its sensor does not say is missing, and costs the row nothing."""
    for trace in traces:
        try:
            host = evaluate.measured(trace, found.start, found.end)
        except Unusable:
            continue
        return {"host_energy_j": host.mean * found.seconds / iterations}
    return {}


def flags(row: Cells, window: Event | None, idles: list[Event]) -> dict[str, bool]:
    """Marks that energy gives a row; ``shared`` where others used the device in the window."""
    rest = idle(idles, row["power_sensor"]) if row.get("idle_w") is not None else None
    moved = row.get("energy_time_s") and row.get("time_s") and abs(row["energy_time_s"] / row["time_s"] - 1.0) > DRIFT
    others = window.get("others") if window and row.get("energy_time_s") else None
    return {
        "shared": (others or 0.0) > SHARED,
        "thermal_drift": bool(moved),
        "idle_drift": bool(rest and rest.drift is not None and rest.drift > IDLE_DRIFT),
    }
