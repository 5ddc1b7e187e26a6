"""What a trace says about a span of time: how much of the sensor's quantity, with an interval."""

from __future__ import annotations

from dataclasses import dataclass


class Unusable(ValueError):
    """A trace says nothing about a span that could be relied on; why, in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Energy of a span, or percent-seconds.

    Attributes:
        start: of the span that is really covered, seconds of the monotonic clock; within the one that was asked for.
        end: of the same.
        total: joules, or percent x seconds, summed over channels.
        lo: lower end of its 95 % interval: resolution, sampling, times of updates; not the sensor's gain.
        hi: upper end.
        low: smallest value that was seen, in W or %; None where the sensor counts.
        high: largest.
        buckets: whole buckets that it is made of; None where there are none.
    """

    start: float
    end: float
    total: float
    lo: float
    hi: float
    low: float | None = None
    high: float | None = None
    buckets: int | None = None

    @property
    def seconds(self) -> float:
        """Length of the span."""
        return self.end - self.start

    @property
    def mean(self) -> float:
        """Mean power in W, or mean percentage."""
        return self.total / self.seconds
