"""The clock that worker, sensors and outside meters share: monotonic for what is timed, wall for what others stamp."""

from __future__ import annotations

import time


class Clock:
    """This host's clocks. A device that plays back a recording brings one that runs faster."""

    def monotonic(self) -> float:
        """Seconds of CLOCK_MONOTONIC, the same in every process of the host."""
        return time.monotonic()

    def unix(self) -> float:
        """Seconds since 1970, UTC; may be set while something runs."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(max(0.0, seconds))
