"""One channel of a trace as arrays: what was read when, checked for what no sensor can have meant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from perwatt.power.base import CHIP_LIKE, Facts, implausible_w
from perwatt.power.measured import Unusable
from perwatt.power.trace import Trace

Floats: TypeAlias = NDArray[np.float64]

FEWEST = 3  # readings, below which a window says nothing
BESIDE = 4.0  # updates before and after a window that are looked at, too
OFTEN = 0.8  # share of readings with a new value, above which updates come at least as fast as readings
FULL = 100.0  # percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """Readings of a channel in and beside a window.

    Attributes:
        name: of the channel.
        earliest: moment at which each reading can have been taken: when it was asked for.
        latest: when it had been answered.
        values: what was read.
    """

    name: str
    earliest: Floats
    latest: Floats
    values: Floats

    @property
    def changed(self) -> NDArray[np.intp]:
        """Readings that differ from the one before."""
        return np.flatnonzero(np.diff(self.values)) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Updates:
    """When a channel's value changed.

    Attributes:
        at: middle of the time in which it can have.
        half: half of that time.
        index: of the first reading that shows it.
    """

    at: Floats
    half: Floats
    index: NDArray[np.intp]


def channels(trace: Trace, start: float, end: float) -> list[Polled]:
    """The channels of a trace around a window.

    Raises:
        Unusable: there are too few readings, or what is no number.
    """
    facts, times = trace.facts, np.asarray(trace.times)
    inside = int(np.count_nonzero((times >= start) & (times <= end)))
    if inside < FEWEST:
        raise Unusable(f"{facts.sensor}: {inside} readings in {end - start:.3g} s, expected at least {FEWEST}")
    margin = BESIDE * max(facts.update_s, facts.poll_s) + 2.0 * facts.lag_s
    first, last = np.searchsorted(times, [start - margin, end + margin])
    took = np.asarray(trace.took[first:last]) / 2.0
    rows = [one.values for one in trace.readings[first:last]]
    if any(len(row) != len(facts.channels) for row in rows):
        raise Unusable(f"{facts.sensor}: a reading without a value for each of {len(facts.channels)} channels")
    table = np.asarray(rows, dtype=np.float64)
    found = []
    for name, column in zip(facts.channels, table.T, strict=True):
        check(facts, name, column)
        found.append(
            Polled(name=name, earliest=times[first:last] - took, latest=times[first:last] + took, values=column)
        )
    return found


def check(facts: Facts, name: str, values: Floats) -> None:
    """What can be said of each value by itself.

    Raises:
        Unusable: one is not a number, negative, or more than there can be.
    """
    if not np.isfinite(values).all():
        found = values[~np.isfinite(values)][0]
        raise Unusable(f"{facts.sensor}: {name} reads {found}, expected a finite number")
    if (values < 0.0).any():
        raise Unusable(f"{facts.sensor}: {name} reads {values.min():g} {facts.quantity}, expected none below 0")
    most = {"W": implausible_w(facts.scope, facts.chips), "%": FULL + facts.resolution, "J": math.inf}[facts.quantity]
    if (values > most).any():
        whole = "a chip" if facts.quantity == "%" or facts.scope in CHIP_LIKE else f"a {facts.scope}"
        whole = f"of {facts.chips} chips" if facts.chips > 1 else whole
        found = f"{values.max():g} {facts.quantity}"
        raise Unusable(f"{facts.sensor}: {name} reads {found}, expected at most {most:g} {whole}")


def updates(polled: Polled, update_s: float) -> Updates:
    """When its value changed: after the reading before, and not longer ago than updates are apart."""
    index = polled.changed
    period = max(update_s, _spacing(polled, index))
    earliest = np.maximum(polled.earliest[index - 1], polled.earliest[index] - period)
    latest = polled.latest[index]
    return Updates(at=(earliest + latest) / 2.0, half=(latest - earliest) / 2.0, index=index)


def _spacing(polled: Polled, index: NDArray[np.intp]) -> float:
    """Seconds between updates as seen, which may be more than is stated; 0 where readings are too slow to tell."""
    if index.size < 10 or index.size > OFTEN * polled.values.size:
        return 0.0
    return float(np.quantile(np.diff(polled.latest[index]), 0.1))
