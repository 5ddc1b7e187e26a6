"""Energy of a span of time from what a sensor said around it."""

from __future__ import annotations

from perwatt.power import buckets, counter, samples
from perwatt.power.measured import Measured, Unusable
from perwatt.power.trace import Trace

KINDS = {"counter": counter.measured, "samples": samples.measured, "buckets": buckets.measured}


def measured(trace: Trace, start: float, end: float) -> Measured:
    """What was used within a window, with the 95 % interval that resolution and sampling leave.

    Args:
        trace: Of the window and a little of what is before and after it.
        start: Of the window, seconds of the monotonic clock.
        end: Of the same.

    Returns:
        The sum over the sensor's channels. It is of the whole updates inside the window: take ``start`` and ``end``
        from the result.

    Raises:
        Unusable: the trace says nothing about the window that could be relied on.
    """
    facts = trace.facts
    if not end > start:
        raise Unusable(f"{facts.sensor}: a window from {start:g} to {end:g} s has no length")
    if facts.kind not in KINDS or not facts.channels:
        raise Unusable(f"{facts.sensor}: nothing is known of {facts.kind} of {len(facts.channels)} channels")
    if not trace.times:
        raise Unusable(f"{facts.sensor}: no readings" + (f": {trace.lost}" if trace.lost else ""))
    if trace.lost and trace.times[-1] < end:
        raise Unusable(f"{facts.sensor}: lost inside the window: {trace.lost}")
    if trace.times[-1] <= start or trace.times[0] >= end:
        raise Unusable(
            f"{facts.sensor}: readings from {trace.times[0]:.3f} to {trace.times[-1]:.3f} s do not overlap the window "
            f"from {start:.3f} to {end:.3f} s"
        )
    return KINDS[facts.kind](trace, start, end)
