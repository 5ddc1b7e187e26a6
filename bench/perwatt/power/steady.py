"""The steady part of a load: where its ramp has ended, whether its rate stays, and how much work a span holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from perwatt.power.measured import Unusable
from perwatt.power.polled import Floats

Mark: TypeAlias = tuple[float, float]  # moment at which a batch was complete, iterations by then

THIRDS = 3
FEWEST = 2 * THIRDS + 1  # marks: two batches in each third
MOST = 0.05  # between the rates of two thirds


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """The steady part of a window.

    Attributes:
        start: seconds of the monotonic clock, after the ramp.
        end: of the last batch inside the window.
        drift: rate of the last third over that of the first, less one.
    """

    start: float
    end: float
    drift: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Iterations within a span.

    Attributes:
        iterations: by straight lines between the marks.
        error: they are off by no more than this, in iterations: how far, within a batch, its work can be from
            proportional to time, both ends together. 0 where both ends are marks.
    """

    iterations: float
    error: float


def steady(marks: Sequence[Mark], start: float, end: float, ramp_s: float) -> Span:
    """The part of a window in which the sensor shows a load of one rate.

    Args:
        marks: Of the load, in order.
        start: Of the window, seconds of the monotonic clock.
        end: Of the same.
        ramp_s: Of it, left out at the beginning.

    Returns:
        From the end of the ramp to the last mark of the window.

    Raises:
        Unusable: too little is left, or thirds of it differ in rate by more than 5 %.
    """
    at, done = _columns(marks)
    begin = start + ramp_s
    inside = (at >= begin) & (at <= end)
    at, done = at[inside], done[inside]
    if at.size < FEWEST:
        raise Unusable(
            f"the load completed {at.size} batches from {begin - start:.3g} s to {end - start:.3g} s of the window, "
            f"expected at least {FEWEST}"
        )
    cuts = np.linspace(at[0], at[-1], THIRDS + 1)
    rates = np.diff(np.interp(cuts, at, done)) / np.diff(cuts)
    if rates.min() <= 0.0 or rates.max() > (1.0 + MOST) * rates.min():
        shown = ", ".join(f"{rate:.4g}" for rate in rates)
        raise Unusable(f"the load was not steady: {shown} iterations/s in its thirds, expected within {MOST:.0%}")
    return Span(start=begin, end=float(at[-1]), drift=float(rates[-1] / rates[0]) - 1.0)


def iterations_between(marks: Sequence[Mark], start: float, end: float) -> Work:
    """Iterations between two moments.

    A batch's iterations are taken to be spread evenly over its time. They are equal and run one after another, so what
    remains is how the work of the one under way is spread, half an iteration, and that the rate may vary within a
    batch as it does from batch to batch; never more than half a batch.

    Raises:
        Unusable: the marks do not reach from ``start`` to ``end``.
    """
    at, done = _columns(marks)
    if at[0] > start or at[-1] < end:
        raise Unusable(f"marks from {at[0]:.3f} to {at[-1]:.3f} s do not hold the span from {start:.3f} to {end:.3f} s")
    a, b = np.interp([start, end], at, done)
    return Work(iterations=float(b - a), error=_off(at, done, start) + _off(at, done, end))


def _off(at: Floats, done: Floats, moment: float) -> float:
    """How many iterations the straight line may be off at a moment: one under way, and uneven times of the others."""
    after = int(np.searchsorted(at, moment))
    if at[after] == moment:
        return 0.0
    batch = done[after] - done[after - 1]
    share = (moment - at[after - 1]) / (at[after] - at[after - 1])
    rates = np.diff(done) / np.diff(at)
    near = rates[max(0, after - 2) : after + 1]
    uneven = float(np.ptp(near) / near.mean()) * batch * share * (1.0 - share)
    return float(min(batch / 2.0, 0.5 + uneven))


def _columns(marks: Sequence[Mark]) -> tuple[Floats, Floats]:
    """Raises Unusable where there are too few, or they do not ascend."""
    if len(marks) < 2:
        raise Unusable(f"the load completed {len(marks)} batches, expected at least 2")
    at, done = np.asarray(marks, dtype=np.float64).T
    ascend = (np.diff(at) > 0.0).all() and (np.diff(done) > 0.0).all()
    if not (ascend and np.isfinite(at).all() and np.isfinite(done).all()):
        raise Unusable("the moments and iterations of the load's batches do not ascend")
    return at, done
