"""Percent-seconds from averages over whole wall-clock minutes.

Only minutes that lie within the window as a whole are used. Whether a stamp names a minute's beginning or its end is
not documented, so stamps only have to step by minutes; which minute a value is of follows from when it was first seen:
the last one that was complete.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perwatt.power.base import Facts, Reading
from perwatt.power.errors import NORMAL, Errors
from perwatt.power.measured import Measured, Unusable
from perwatt.power.polled import FEWEST, Floats, check
from perwatt.power.trace import Trace
from perwatt.timing.student import student_t

SAMPLES = 60  # in a minute, or the driver says that it has no data
CLOCK_STEP_S = 0.5  # of the wall clock against the monotonic one


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A completed bucket.

    Attributes:
        number: of its end, in whole buckets since 1970.
        reading: what was said of it.
    """

    number: int
    reading: Reading


def measured(trace: Trace, start: float, end: float) -> Measured:
    """Percent-seconds of the longest stretch of whole buckets inside the window.

    Raises:
        Unusable: there is none, the wall clock was set, or stamps do not step by buckets.
    """
    facts = trace.facts
    offset, jitter = _offset(trace, start, end)
    length = facts.update_s
    inside = [
        one for one in _buckets(trace)
        if (one.number - 1) * length - offset >= start and one.number * length - offset <= end
    ]  # fmt: skip
    if not inside:
        raise Unusable(f"{facts.sensor}: no whole {length:g} s of the wall clock within {end - start:.3g} s")
    used = _longest(inside)
    lows, highs, means = (_table(facts, used, name) for name in ("lows", "highs", "values"))
    errors, seconds = Errors(), length * len(used)
    for name, low, high, mean in zip(facts.channels, lows.T, highs.T, means.T, strict=True):
        _sane(facts, name, low, high, mean)
        errors.normal(_variance(low, high, mean) * seconds**2)
        errors.within(facts.resolution / 2.0 * seconds)
    errors.within(float((highs - lows).max()) * jitter)
    total = float(means.sum()) * length
    a = (used[0].number - 1) * length - offset
    return Measured(
        start=a, end=a + seconds, total=total, lo=max(0.0, total - errors.half), hi=total + errors.half,
        low=float(lows.sum(axis=1).min()), high=float(highs.sum(axis=1).max()), buckets=len(used),
    )  # fmt: skip


def _offset(trace: Trace, start: float, end: float) -> tuple[float, float]:
    """Wall clock less monotonic clock, and by how much it varies.

    Raises:
        Unusable: the wall clock was set inside the window.
    """
    times, took = np.asarray(trace.times), np.asarray(trace.took)
    inside = (times >= start) & (times <= end)
    if np.count_nonzero(inside) < FEWEST:
        raise Unusable(f"{trace.facts.sensor}: {np.count_nonzero(inside)} readings, expected at least {FEWEST}")
    offsets = (np.asarray(trace.unix) - (times - took / 2.0))[inside]
    if np.ptp(offsets) > CLOCK_STEP_S:
        raise Unusable(f"{trace.facts.sensor}: the wall clock was set by {np.ptp(offsets):.3g} s inside the window")
    return float(np.median(offsets)), float(np.ptp(offsets))


def _buckets(trace: Trace) -> list[Bucket]:
    """Buckets whose first appearance was seen, in order.

    Raises:
        Unusable: stamps do not step as whole buckets of the wall clock do.
    """
    length, found = trace.facts.update_s, []
    for before, now, unix in zip(trace.readings, trace.readings[1:], trace.unix[1:], strict=False):
        if now.stamp is None or before.stamp is None:
            raise Unusable(f"{trace.facts.sensor}: a reading without a stamp")
        if now.stamp != before.stamp:
            found.append(Bucket(number=int(unix // length), reading=now))
    shifts = {one.number * length - (one.reading.stamp or 0.0) for one in found}
    if len(shifts) > 1:
        stamps = ", ".join(f"{one.reading.stamp:.0f}" for one in found)
        raise Unusable(f"{trace.facts.sensor}: stamps {stamps} do not step by {length:g} s with the wall clock")
    return found


def _longest(buckets: list[Bucket]) -> list[Bucket]:
    """The longest stretch without a missing one."""
    stretches: list[list[Bucket]] = []
    for one in buckets:
        if stretches and one.number == stretches[-1][-1].number + 1:
            stretches[-1].append(one)
        else:
            stretches.append([one])
    return max(stretches, key=len)


def _table(facts: Facts, buckets: list[Bucket], name: str) -> Floats:
    rows = [getattr(one.reading, name) for one in buckets]
    if any(len(row) != len(facts.channels) for row in rows):
        raise Unusable(f"{facts.sensor}: {name} do not say something of each of {len(facts.channels)} channels")
    return np.asarray(rows, dtype=np.float64)


def _sane(facts: Facts, name: str, low: Floats, high: Floats, mean: Floats) -> None:
    """Raises Unusable where the three do not fit, or nothing was drawn."""
    for values in (low, high, mean):
        check(facts, name, values)
    if (low > mean).any() or (mean > high).any():
        raise Unusable(f"{facts.sensor}: the average of {name} is not between its minimum and its maximum")
    if not (mean > 0.0).all():
        raise Unusable(f"{facts.sensor}: {name} reads 0 % under load")


def _variance(low: Floats, high: Floats, mean: Floats) -> float:
    """Variance of the mean over the buckets.

    No values between a minimum and a maximum, with this average, vary more than those that are always one or the
    other. A drift from bucket to bucket widens the range within each, but is averaged well. Where several buckets agree
    better than all that, their spread counts.
    """
    count = mean.size
    if count > 1:
        drift = np.abs(np.gradient(mean)) / 2.0
        low, high = np.minimum(mean, low + drift), np.maximum(mean, high - drift)
    widest = float(((high - mean) * (mean - low)).mean()) / (SAMPLES * count)
    if count < 3:
        return widest
    spread = float(mean.var(ddof=1)) / count * (student_t(0.95, count - 1.0) / NORMAL) ** 2
    return min(widest, spread)
