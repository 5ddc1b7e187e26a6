"""What the emulator reports, and where in the kernel it is."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = str(Path(__file__).parent)


class Refused(ValueError):
    """What the compiler or the driver would not take."""


class Hazard(RuntimeError):
    """What they take, and what goes wrong on a device, perhaps only at times."""


class Deadlock(Hazard):
    """Every partition waits, and nothing is on its way."""


class Abandoned(BaseException):
    """Ends the threads of the other partitions once one has failed."""


def where() -> str:
    """The line of the kernel that is being run."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(HERE):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"
