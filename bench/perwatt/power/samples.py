"""Energy from samples of power: each update stands for the time around the middle of what it averages.

A sensor holds its value until the next update, so readings between two updates say nothing new and get no credit. The
span is made of whole updates. Where a sensor averages over all of the time (``lag_s`` is half of an update or more),
their sum is exact for any load, as with a counter; where it looks only now and then, it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from perwatt.power.base import Facts
from perwatt.power.curve import Curve, total
from perwatt.power.errors import Errors
from perwatt.power.measured import Measured, Unusable
from perwatt.power.noise import mean_variance, rounding
from perwatt.power.polled import Floats, Polled, channels, updates
from perwatt.power.trace import Trace

Counts: TypeAlias = NDArray[np.intp]

NEAR = 2  # values on each side, by which power changes at a moment
HIDDEN = 0.2  # assumed: share of the power by which it swings within an update unseen
HOLE = 1.5  # updates: a longer distance between two of them is a hole
MOST_HOLES = 0.2  # of the window
MOST_STALLED = 0.05  # of the window; a shorter stall is a hole
STUCK = 50  # updates with one value, which no sensor shows whose step is this share of the value, or less
FINE = 5e-4
ALONE = 3.0  # times the second longest run of equal values
SAME = 5  # updates with the same value, before which a sensor is not taken for stalled
CHANCE = 1e-4  # of one honest sensor that is taken for stalled
REGULAR = 6.0  # times the median run of equal values: what a load of steps without noise may well show
LAG_SHARE = 0.2  # assumed: how much the lag may be off, as a share of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Values, each with the time it stands for.

    Attributes:
        values: W or %.
        middles: of the time each was averaged over.
        half: seconds by which these may be off.
        bounds: between the cells, one more than there are cells.
        update_s: usual distance of the middles.
        stalled: seconds for which the sensor repeated itself as no honest one does.
    """

    values: Floats
    middles: Floats
    half: Floats
    bounds: Floats
    update_s: float
    stalled: float


def measured(trace: Trace, start: float, end: float) -> Measured:
    """Energy, or percent-seconds, of the whole updates inside the window.

    Raises:
        Unusable: too much is missing, or the sensor reads zero, stood still, or says what cannot be.
    """
    facts = trace.facts
    found = channels(trace, start + facts.lag_s, end + facts.lag_s)
    return total([_curve(facts, polled, start, end) for polled in found], start, end, facts.sensor)


def _curve(facts: Facts, polled: Polled, start: float, end: float) -> Curve:
    cells = _cells(facts, polled)
    inside = (cells.middles >= start) & (cells.middles <= end)
    values = cells.values[inside]
    if not (values > 0.0).any() or (facts.quantity == "W" and values.min() == 0.0):
        raise Unusable(f"{facts.sensor}: {polled.name} reads 0 {facts.quantity} under load")
    _complete(facts, polled.name, cells, start, end)
    half = np.concatenate((cells.half[:1], (cells.half[1:] + cells.half[:-1]) / 2.0, cells.half[-1:]))
    used = np.concatenate(([0.0], np.cumsum(cells.values * np.diff(cells.bounds))))
    return Curve(
        at=cells.bounds, half=half, used=used,
        late=partial(_late, cells.values, half), inner=partial(_errors, facts, cells),
        low=float(values.min()), high=float(values.max()),
    )  # fmt: skip


def _late(values: Floats, half: Floats, place: int) -> float:
    """A shift moves what is summed up together with the span: the two differ only where power changes."""
    near = values[max(0, place - NEAR) : place + NEAR]
    return float(max(np.ptp(near), HIDDEN * near.mean()) * half[place])


def _cells(facts: Facts, polled: Polled) -> Cells:
    at, half, values, period, stalled = _points(facts, polled)
    middles = np.maximum.accumulate(at - facts.lag_s)
    span = 2.0 * facts.lag_s
    if span > HOLE * period:  # values overlap: those are taken that do not
        keep = _apart(middles, span, period)
        middles, half, values, period = middles[keep], half[keep], values[keep], span
    between = (middles[1:] + middles[:-1]) / 2.0
    bounds = np.concatenate(([middles[0] - period / 2.0], between, [middles[-1] + period / 2.0]))
    return Cells(values=values, middles=middles, half=half, bounds=bounds, update_s=period, stalled=stalled)


def _points(facts: Facts, polled: Polled) -> tuple[Floats, Floats, Floats, float, float]:
    """Times of updates, half of the time each may lie in, values, their usual distance, and seconds of stalls.

    An update that left the value as it was does not show, and is taken to have come when it was due.
    """
    when = updates(polled, facts.update_s)
    gaps = np.diff(polled.latest)
    usual = float(np.median(gaps))
    period = max(facts.update_s, usual, _typical(np.diff(when.at)))
    resumed = np.flatnonzero(gaps > max(HOLE * period, usual + period)) + 1  # readings are missing before these
    at, half, index = _with(polled, when.at, when.half, when.index, resumed, facts.update_s)
    last = np.append(index[1:], polled.values.size) - 1  # reading that still showed the same update
    ends = np.append(at[1:], polled.latest[-1] + period / 2.0)
    ends = np.where(np.isin(last + 1, resumed), polled.latest[last] + period / 2.0, ends)
    counts = np.maximum(1, np.rint((ends - at) / period)).astype(np.intp)
    stalls = _stalls(counts, polled.values[index])
    stalled = float((ends - at)[stalls].sum())
    counts[stalls] = 1
    steps = np.where(counts > 1, (ends - at) / counts, 0.0)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    moments = np.repeat(at, counts) + number * np.repeat(steps, counts)
    return moments, np.repeat(half, counts), np.repeat(polled.values[index], counts), period, stalled


def _with(
    polled: Polled, at: Floats, half: Floats, index: Counts, resumed: Counts, update_s: float
) -> tuple[Floats, Floats, Counts]:
    """The first reading and those after a gap begin something new, too: updated some time within the last update."""
    extra = np.union1d([0], resumed).astype(np.intp)
    known = ~np.isin(index, extra)
    every = np.concatenate((extra, index[known]))
    order = np.argsort(every, kind="stable")
    moments = np.concatenate((polled.latest[extra] - update_s / 2.0, at[known]))
    halves = np.concatenate((np.full(extra.size, update_s / 2.0), half[known]))
    return moments[order], halves[order], every[order]


def _typical(lengths: Floats) -> float:
    """Seconds between updates where they are further apart than stated."""
    return float(np.quantile(lengths, 0.1)) if lengths.size >= 10 else 0.0


def _stalls(counts: Counts, values: Floats) -> NDArray[np.bool_]:
    """Runs of equal values so long as no honest sensor shows whose value changes elsewhere as often as this one's.

    A reading that is missing does not end a run: what stands after it at the value before goes on standing.
    """
    run = np.cumsum(np.diff(values, prepend=np.nan) != 0.0) - 1
    return np.isin(run, np.flatnonzero(_too_long(np.bincount(run, weights=counts).astype(np.intp))))


def _too_long(counts: Counts) -> NDArray[np.bool_]:
    others = counts[counts < counts.max()]
    if others.size < SAME:
        return np.zeros(counts.size, dtype=bool)
    same = 1.0 - others.size / others.sum()  # chance that an update leaves the value as it was
    chance = counts.sum() * same ** (counts - 1.0)
    # A load of steps is level time and again: no other run may come near.
    fewest = max(SAME, REGULAR * float(np.median(counts)), ALONE * int(others.max()))
    found: NDArray[np.bool_] = (chance < CHANCE) & (counts > fewest)
    return found


def _apart(middles: Floats, span: float, period: float) -> Counts:
    """Indices of values about ``span`` apart."""
    keep = [0]
    for place, moment in enumerate(middles):
        if moment - middles[keep[-1]] >= span - period / 2.0:
            keep.append(place)
    return np.array(keep)


def _complete(facts: Facts, name: str, cells: Cells, start: float, end: float) -> None:
    values = cells.values[(cells.middles >= start) & (cells.middles <= end)]
    if values.size >= STUCK and np.ptp(values) == 0.0 and facts.resolution <= FINE * values[0]:
        raise Unusable(f"{facts.sensor}: {name} reads {values[0]:g} {facts.quantity} all along, and never moves")
    if cells.stalled > MOST_STALLED * (end - start):
        raise Unusable(f"{facts.sensor}: {name} repeated itself for {cells.stalled:.3g} s, and changes elsewhere")
    edges = np.concatenate(([start], cells.middles[(cells.middles > start) & (cells.middles < end)], [end]))
    gaps = np.diff(edges)
    holes = float((gaps[gaps > HOLE * cells.update_s] - cells.update_s).sum())
    if holes > MOST_HOLES * (end - start):
        raise Unusable(f"{facts.sensor}: {name} says nothing for {holes:.3g} s of {end - start:.3g} s")


def _errors(facts: Facts, cells: Cells, start: float, end: float) -> Errors:
    """Noise, rounding, holes, moments of updates inside, and the lag."""
    errors = Errors()
    inside = (cells.middles > start) & (cells.middles < end)
    values, middles = cells.values[inside], cells.middles[inside]
    seconds = end - start
    duty = min(1.0, 2.0 * facts.lag_s / cells.update_s)
    mean, deviation = mean_variance(values, facts.resolution, duty)
    errors.normal(mean * seconds**2)
    errors.within(rounding(values, facts.resolution, deviation) * seconds)
    # A value's time ends half-way to the next one: half of the difference of its neighbours goes with its own moment.
    errors.normal(float(((values[2:] - values[:-2]) ** 2 * cells.half[inside][1:-1] ** 2).sum()) / 12.0)
    errors.normal(_holes(values, np.diff(middles), cells.update_s))
    if values.size:
        errors.within(float(values[-1] - values[0]) * LAG_SHARE * facts.lag_s)
    return errors


def _holes(values: Floats, gaps: Floats, update_s: float) -> float:
    """Variance of what is not known about holes: how far values are off a line through neighbours as far away."""
    variance = 0.0
    for gap in gaps[gaps > HOLE * update_s]:
        far = min(max(1, round(gap / update_s / 2.0)), max(1, (values.size - 1) // 3))
        off = values[2 * far :] - 2.0 * values[far:-far] + values[: -2 * far]
        typical = float(np.mean(off**2)) / 4.0 if off.size else float(np.var(values))
        variance += (gap - update_s) ** 2 * typical
    return variance
