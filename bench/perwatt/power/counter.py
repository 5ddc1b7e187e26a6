"""Energy from a counter, between two of its updates.

A counter says what had been used by its latest update, not by the moment it is read. So a span goes from one update to
another, and what remains unknown is when exactly they were, and the counter's steps.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from perwatt.power.base import Facts, implausible_w
from perwatt.power.curve import Curve, total
from perwatt.power.errors import Errors
from perwatt.power.measured import Measured, Unusable
from perwatt.power.polled import Floats, Polled, channels, updates
from perwatt.power.trace import Trace

NEAR = 4  # updates on each side, whose mean power is that at an update
STILL = 4.0  # usual distances between updates, after which a counter that has not moved is looked at
FAINT = 0.05  # of the usual power: what a load draws at least
FEW = 4  # updates, of which none can be called unusual: below, what the sensor states of itself is usual
CAUGHT = 0.5  # of the usual energy: a counter that moved by so much when it moved again has lost nothing


def measured(trace: Trace, start: float, end: float) -> Measured:
    """Energy between the first and the last update of the window.

    Raises:
        Unusable: it moved backwards, stood still, or may have begun anew more than once.
    """
    facts = trace.facts
    wraps = facts.wrap or (None,) * len(facts.channels)
    found = channels(trace, start + facts.lag_s, end + facts.lag_s)
    curves = [_curve(facts, polled, wrap, start, end) for polled, wrap in zip(found, wraps, strict=True)]
    return total(curves, start, end, facts.sensor)


def _curve(facts: Facts, polled: Polled, wrap: float | None, start: float, end: float) -> Curve:
    used = _unwrapped(facts, polled, wrap)
    when = updates(polled, facts.update_s)
    if not when.index.size:
        raise Unusable(f"{facts.sensor}: {polled.name} stands still at {polled.values[0]:g} J under load")
    at = np.maximum.accumulate(when.at - facts.lag_s)
    inside = (at >= start) & (at <= end)
    _moves(facts, polled, at[inside], used[when.index][inside])
    used = used[when.index]
    late = partial(_late, at, when.half, used)
    return Curve(at=at, half=when.half, used=used, late=late, inner=partial(_steps, facts.resolution))


def _late(at: Floats, half: Floats, used: Floats, place: int) -> float:
    """What is drawn within the time in which an update may have been, at the largest mean power around it.

    What power does within an update does not show, but what it does beside it does.
    """
    lo, hi = max(0, place - NEAR), min(at.size - 1, place + NEAR)
    pairs = [(0, at.size - 1), (lo, place), (place, hi)]
    slopes = [(used[b] - used[a]) / (at[b] - at[a]) for a, b in pairs if at[b] > at[a]]
    return float(max(slopes, default=0.0) * half[place])


def _steps(resolution: float, start: float, end: float) -> Errors:
    """Each end of the difference is cut off to a step."""
    errors = Errors()
    for _ in (start, end):
        errors.within(resolution / 2.0)
    return errors


def _unwrapped(facts: Facts, polled: Polled, wrap: float | None) -> Floats:
    """The counter as if it never began anew.

    Raises:
        Unusable: no single new beginning explains what was read.
    """
    grown = np.diff(polled.values)
    # What is seen to be added between two readings was so since the update before the first of them.
    most = implausible_w(facts.scope) * (polled.latest[1:] - polled.earliest[:-1] + facts.update_s)
    back = grown < 0.0
    if back.any() and wrap is None:
        where = int(np.flatnonzero(back)[0])
        raise Unusable(_backwards(facts, polled, where))
    if wrap is not None:
        grown = np.where(back, grown + wrap, grown)
        wrong = back & ((grown < 0.0) | (grown > most))
        if wrong.any():
            raise Unusable(_backwards(facts, polled, int(np.flatnonzero(wrong)[0])))
        if (grown + wrap <= most).any():
            gap = float(np.diff(polled.latest).max())
            raise Unusable(f"{facts.sensor}: {polled.name} may have begun anew more than once in {gap:.3g} s")
    if (grown > most).any():
        where = int(np.flatnonzero(grown > most)[0])
        seconds = polled.latest[where + 1] - polled.earliest[where]
        raise Unusable(
            f"{facts.sensor}: {polled.name} grew by {grown[where]:g} J in {seconds:.3g} s, "
            f"expected at most {implausible_w(facts.scope):g} W a chip"
        )
    return np.concatenate(([0.0], np.cumsum(grown)))


def _backwards(facts: Facts, polled: Polled, where: int) -> str:
    return f"{facts.sensor}: {polled.name} went back from {polled.values[where]:g} to {polled.values[where + 1]:g} J"


def _moves(facts: Facts, polled: Polled, at: Floats, used: Floats) -> None:
    """A counter moves at every update of a load. One that stood still and then went on as before has lost energy.

    Raises:
        Unusable: it stood still.
    """
    if at.size < 2:
        return
    seconds, grown = np.diff(at), np.diff(used)
    stated = max(facts.update_s, float(np.median(np.diff(polled.latest))))
    usual = float(np.median(seconds)) if at.size >= FEW else stated
    power = (used[-1] - used[0]) / (at[-1] - at[0])
    power = max(power, float(np.median(grown)) / usual if usual > 0.0 else 0.0)
    still = seconds > STILL * max(usual, facts.update_s)
    lost = still & (grown < CAUGHT * power * seconds) & (FAINT * power * seconds > 2.0 * facts.resolution)
    if lost.any():
        raise Unusable(f"{facts.sensor}: {polled.name} stood still for {seconds[lost].max():.3g} s under load")
