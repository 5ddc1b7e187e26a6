"""Whether a time is the device's or the host's that handed the work over (docs/method.md, Time)."""

from __future__ import annotations

SHARE = 0.9


def suspected(time_s: float, enqueue_s: float) -> bool:
    """Whether handing over took so much of the time that it may be what was measured."""
    return enqueue_s > SHARE * time_s


def bound(time_s: float, enqueue_s: float, busy_s: float | None) -> str:
    """``host`` or ``device``.

    A host that has filled the device's queue waits, and its handing over then takes as long as the work. So it is not
    blamed where the device's kernels by themselves take as large a share of the time.

    Args:
        time_s: of an iteration.
        enqueue_s: the host's part of it.
        busy_s: durations of the device's kernels of an iteration, summed; None where nobody knows.
    """
    if not suspected(time_s, enqueue_s):
        return "device"
    return "device" if busy_s is not None and busy_s > SHARE * time_s else "host"
