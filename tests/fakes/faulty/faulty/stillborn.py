"""A device that is there until it is started; of several the second one, which the others then wait for."""

from __future__ import annotations

import os
import time

from perwatt.backends.cpu import Cpu


class Stillborn(Cpu):
    """See the module."""

    name = "stillborn"
    priority = -1

    def join(self, rank: int, world: int) -> None:
        while rank == 1 and os.environ.get("STILLBORN") == "hangs":
            time.sleep(60)
        super().join(rank, world)

    def start(self) -> None:
        if os.environ.get("RANK", "1") == "1":
            raise OSError("the driver is older than the runtime")
        super().start()


BACKEND = Stillborn()
