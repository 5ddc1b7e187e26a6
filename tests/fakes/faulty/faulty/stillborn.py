"""A device that is there until it is started."""

from __future__ import annotations

from perwatt.backends.cpu import Cpu


class Stillborn(Cpu):
    """See the module."""

    name = "stillborn"
    priority = -1

    def start(self) -> None:
        raise OSError("the driver is older than the runtime")


BACKEND = Stillborn()
