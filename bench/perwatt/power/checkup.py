"""The self-test of a sensor: what it says at rest, at half and at full load, and whether that can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from perwatt.power import evaluate
from perwatt.power.measured import Measured, Unusable
from perwatt.power.trace import Trace

MOVES = 1.05  # power at full load over that at rest, at least, for a sensor that sees the load at all
AGREE = 0.05  # between a counter and samples of the same chips (docs/energy.md); their own intervals come on top
LOADS = ("idle", "half", "full")


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """One level of load, as one sensor saw it.

    Attributes:
        trace: what it said, quiet before and after included.
        start: of the load, or of the look at the idle device.
        end: of the same.
        ramp_s: of it, left out of what is judged.
    """

    trace: Trace
    start: float
    end: float
    ramp_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a self-test found.

    Attributes:
        sensor: its name.
        unit: W or %.
        means: mean power or percentage by load, where it could be told.
        update_s: seconds between two changes of what it says; None where it never changed.
        resolution: smallest change, in the sensor's own unit.
        lag_s: seconds from the beginning of full load until half of the rise is seen; None where it counts, or never.
        failed: why it cannot be believed; empty where it can.
    """

    sensor: str
    unit: str
    means: Mapping[str, float]
    update_s: float | None
    resolution: float | None
    lag_s: float | None
    failed: str


def judge(loads: Mapping[str, Load], *, follows: bool = True) -> Verdict:
    """The verdict on one sensor, by its traces at the three :data:`LOADS`.

    Args:
        loads: what it said at each.
        follows: whether it has to rise with the load; that of a host need not where another chip works.
    """
    facts = loads["full"].trace.facts
    means, reasons = {}, []
    for name in LOADS:
        found = _measured(loads[name])
        if isinstance(found, str):
            reasons.append(f"{name}: {found}")
        else:
            means[name] = found.mean
    if follows and not reasons and not _moves(means):
        said = ", ".join(f"{name} {means[name]:.4g}" for name in LOADS)
        reasons.append(f"it does not follow the load: {said}")
    steps = _steps(loads["full"].trace)
    return Verdict(
        sensor=facts.sensor, unit="%" if facts.quantity == "%" else "W", means=means, update_s=_period(steps),
        resolution=min((size for _, size in steps), default=None), lag_s=_lag(loads["full"], means),
        failed="; ".join(reasons),
    )  # fmt: skip


def unopened(sensor: str, reason: str) -> Verdict:
    """The verdict on a sensor that seemed readable and could not be opened."""
    why = f"cannot be opened: {reason}"
    return Verdict(sensor=sensor, unit="", means={}, update_s=None, resolution=None, lag_s=None, failed=why)


def disagreement(a: Load, b: Load) -> str:
    """Why two sensors of the same chips cannot both be right; empty where they agree, or one says nothing."""
    one, other = _measured(a), _measured(b)
    if isinstance(one, str) or isinstance(other, str):
        return ""
    widths = sum((found.hi - found.lo) / 2 / found.total for found in (one, other))
    difference = abs(one.mean / other.mean - 1.0)
    if difference <= AGREE + widths:
        return ""
    names = a.trace.facts.sensor, b.trace.facts.sensor
    return f"{names[0]} says {one.mean:.4g}, {names[1]} {other.mean:.4g}: {100 * difference:.1f} % apart"


def _measured(load: Load) -> Measured | str:
    try:
        return evaluate.measured(load.trace, load.start + load.ramp_s, load.end)
    except Unusable as error:
        return str(error)


def _moves(means: Mapping[str, float]) -> bool:
    """Whether more load is more power. Halves are told apart only where the whole rise is large."""
    idle, half, full = (means[name] for name in LOADS)
    return full > MOVES * max(idle, 0.0) and full > 0 and idle <= half * MOVES and half <= full * MOVES


def _steps(trace: Trace) -> list[tuple[float, float]]:
    """When the sensor's first channel changed, and by how much."""
    said = [(at, one.values[0]) for at, one in zip(trace.times, trace.readings, strict=True)]
    return [(at, abs(value - before)) for (_, before), (at, value) in pairwise(said) if value != before]


def _period(steps: Sequence[tuple[float, float]]) -> float | None:
    gaps = [b - a for (a, _), (b, _) in pairwise(steps)]
    return median(gaps) if gaps else None


def _lag(full: Load, means: Mapping[str, float]) -> float | None:
    """Time from the start of the load until the value is half-way up."""
    if full.trace.facts.kind != "samples" or not {"idle", "full"} <= set(means):
        return None
    middle = (means["idle"] + means["full"]) / 2
    for at, reading in zip(full.trace.times, full.trace.readings, strict=True):
        if at >= full.start and sum(reading.values) >= middle:
            return at - full.start
    return None
