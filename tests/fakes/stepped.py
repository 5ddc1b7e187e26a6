"""A clock for several threads on which no time passes but by sleep: all sleep, then the first of them is woken."""

from __future__ import annotations

import threading

from perwatt.power.clock import Clock

STALLED_S = 0.25  # after which whoever does not sleep is taken to wait for those who do


class Stepped(Clock):
    """Time of the main thread and of those that read sensors."""

    def __init__(self, epoch: float = 1_760_000_000.0) -> None:
        self.now, self.epoch = 0.0, epoch
        self._wakes: dict[int, float] = {}
        self._changed = threading.Condition()

    def monotonic(self) -> float:
        return self.now

    def unix(self) -> float:
        return self.epoch + self.now

    def sleep(self, seconds: float) -> None:
        with self._changed:
            wake, me = self.now + max(0.0, seconds), threading.get_ident()
            self._wakes[me] = wake
            self._changed.notify_all()
            while self.now < wake:
                if wake == min(self._wakes.values()) and (self._all_sleep() or not self._changed.wait(STALLED_S)):
                    self.now = max(self.now, wake)
                    self._changed.notify_all()
                elif self.now < wake:
                    self._changed.wait(0.001)
            del self._wakes[me]
            self._changed.notify_all()

    def _all_sleep(self) -> bool:
        watching = sum(thread.name.startswith("perwatt-") for thread in threading.enumerate())
        return len(self._wakes) > watching
