"""What a channel had used by each of several moments, and the sum of channels over the span that all of them cover."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from perwatt.power.errors import Errors
from perwatt.power.measured import Measured, Unusable
from perwatt.power.polled import Floats

LEAST = 0.5  # of the window has to be covered


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Use of one channel.

    Attributes:
        at: moments, seconds of the monotonic clock, ascending; their true times lie within ``half`` of them.
        half: seconds.
        used: J or percent-seconds at those moments, from any zero.
        late: how much the use until the moment of this number may be off because the moment is not known exactly.
        inner: further errors of the use between two moments.
        low: smallest value seen; None for counters.
        high: largest.
    """

    at: Floats
    half: Floats
    used: Floats
    late: Callable[[int], float]
    inner: Callable[[float, float], Errors]
    low: float | None = None
    high: float | None = None

    def between(self, start: float, end: float) -> float:
        """What was used."""
        a, b = np.interp([start, end], self.at, self.used)
        return float(b - a)

    def shifted(self, moment: float) -> float:
        """How much the use until a moment may be off because moments are not known exactly."""
        after = min(int(np.searchsorted(self.at, moment)), self.at.size - 1)
        if self.at[after] == moment or after == 0:
            return self.late(after)
        return max(self.late(after - 1), self.late(after))

    def bent(self, moment: float) -> float:
        """How much the use between two known moments may be off the straight line, from the slopes beside it."""
        after = int(np.searchsorted(self.at, moment))
        if after in (0, self.at.size) or self.at[after] == moment:
            return 0.0
        lo, hi = max(0, after - 2), min(self.at.size, after + 2)
        slopes = np.diff(self.used[lo:hi]) / np.diff(self.at[lo:hi])
        length = self.at[after] - self.at[after - 1]
        share = (moment - self.at[after - 1]) / length
        return float(np.ptp(slopes) * length * share * (1.0 - share))


def total(curves: Sequence[Curve], start: float, end: float, sensor: str) -> Measured:
    """Sum over channels between the first and the last moment inside the window that all of them know.

    Errors of the moments add up over channels, because one reading shows the updates of all; the others are
    independent.

    Raises:
        Unusable: they cover too little of the window.
    """
    inside = [curve.at[(curve.at - curve.half >= start) & (curve.at + curve.half <= end)] for curve in curves]
    if any(at.size < 2 for at in inside):
        raise Unusable(f"{sensor}: fewer than 2 updates in {end - start:.3g} s")
    a, b = max(float(at[0]) for at in inside), min(float(at[-1]) for at in inside)
    if b - a < LEAST * (end - start):
        raise Unusable(f"{sensor}: updates cover {max(0.0, b - a):.3g} s of {end - start:.3g} s")
    errors = Errors()
    for moment in (a, b):
        errors.within(sum(curve.shifted(moment) for curve in curves))
    for curve in curves:
        errors.within(curve.bent(a))
        errors.within(curve.bent(b))
        errors.add(curve.inner(a, b))
    used = sum(curve.between(a, b) for curve in curves)
    lows, highs = [curve.low for curve in curves], [curve.high for curve in curves]
    return Measured(
        start=a, end=b, total=used, lo=max(0.0, used - errors.half), hi=used + errors.half,
        low=None if None in lows else sum(one for one in lows if one is not None),
        high=None if None in highs else sum(one for one in highs if one is not None),
    )  # fmt: skip
