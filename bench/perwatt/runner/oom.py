"""Whether the kernel has killed for want of memory: a killed process cannot say so itself."""

from __future__ import annotations

from pathlib import Path

VMSTAT = Path("/proc/vmstat")


def kills() -> int:
    """Processes that the kernel has killed since boot because memory ran out, of the machine or of a control group.

    Of the whole host: only a rise over the life of a worker that died of SIGKILL says anything. 0 where nobody counts.
    """
    try:
        lines = VMSTAT.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
