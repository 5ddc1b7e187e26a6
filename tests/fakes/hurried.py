"""A clock on which seconds pass as fast as a sensor is read, so that a minute's trace takes no minute."""

from __future__ import annotations

import threading
import time

from perwatt.power.base import Probe
from perwatt.power.clock import Clock
from perwatt.power.trace import Trace
from perwatt.power.watch import Watch


class Hurried(Clock):
    """Time stands still but for what is slept, and after ``end`` altogether."""

    def __init__(self, end: float = float("inf"), epoch: float = 1_760_000_000.0) -> None:
        self.now, self.end, self.epoch = 0.0, end, epoch
        self.over = threading.Event()

    def monotonic(self) -> float:
        return self.now

    def unix(self) -> float:
        return self.epoch + self.now

    def sleep(self, seconds: float) -> None:
        if self.now + seconds <= self.end:
            self.now += max(0.0, seconds)
        else:
            self.over.set()
            time.sleep(0.01)


def watched(probe: Probe, clock: Hurried) -> Trace:
    """The trace of a probe from now until the clock's end, or until it is lost."""
    watch = Watch([probe], clock)
    watch.start()
    name = f"perwatt-{probe.facts.sensor}"
    while not clock.over.wait(0.02) and any(thread.name == name for thread in threading.enumerate()):
        pass
    return watch.stop()[0]
