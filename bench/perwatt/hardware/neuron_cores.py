"""Counters of the physical NeuronCores in the driver's sysfs tree: failed executions, busy cycles, memory in use.

Files are found by name below ``neuron_core<i>``, since driver 2.31 moved them, and are only ever read: writing to some
clears a counter. Names of statuses are those of the guide (``infer_*``) and of the driver (``execute_*``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perwatt.hardware.cgroup import read
from perwatt.hardware.neuron_sysfs import NeuronChip

LIVE_FROM = (2, 30, 2)  # driver from which counters move while the process lives (runtime's release notes, SDK 2.32)
MEMORY = "device_mem"  # folder of a folder for each use of memory, whose file ``total`` has the bytes in use now
ENGINE = "pe_cntrs"
ENGINE_HEAD = "xrow_grp,mm_active,wl_active,idle"
_EITHER = ("failed_to_queue", "completed_with_error")  # `infer_` by the guide, `execute_` by the driver
FAULTS = {
    "failure", "timeout", "hw_error", "generic_error", "resource_error", "resource_nc_error", "invalid_error",
    "unsupported_neff_version", "oob_error", "exec_bad_input",
    "hw_collectives_error", "hw_hbm_ue_error", "hw_nc_ue_error", "hw_dma_abort_error", "hw_repairable_hbm_ue_error",
    "execute_sw_nq_overflow", "execute_sw_semaphore_error", "execute_sw_event_error", "execute_sw_psum_collision",
    "execute_sw_sequencer_fatal",
    *(f"{prefix}_{name}" for prefix in ("infer", "execute") for name in _EITHER),
}  # fmt: skip
"""Ways for an execution to end that are no success. NaN in a result (``completed_with_num_error``) is none of them: the
accuracy gate looks at results, and fills them with NaN itself before it does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """Cycles of the Tensor Engine since it was reset, summed over its row groups.

    Attributes:
        busy: multiplying, or loading weights.
        idle: neither.
    """

    busy: int
    idle: int


class Cores:
    """Counters of some physical cores of a chip.

    Args:
        chip: they are of.
        numbers: of the cores on it.
    """

    def __init__(self, chip: NeuronChip, numbers: Sequence[int]) -> None:
        wanted = {f"neuron_core{number}" for number in numbers}
        found = [path for name in sorted(wanted) for path in _files(chip.folder / name)]
        self._faults = [path for path in found if path.name == "total" and path.parent.name in FAULTS]
        self._engines = [path for path in found if path.name == ENGINE]
        self._uses = [path for path in found if path.name == "total" and path.parent.parent.name == MEMORY]

    def faults(self) -> dict[str, int] | None:
        """Executions that failed so far, by status; None where no counter can be read."""
        known: dict[str, int] = {}
        for path in self._faults:
            count = _count(path)
            if count is not None:
                known[path.parent.name] = known.get(path.parent.name, 0) + count
        return known or None

    def memory(self) -> int | None:
        """Bytes of device memory in use, programs and their scratchpads included; None where one cannot be read."""
        known = [_count(path) for path in self._uses]
        there = [count for count in known if count is not None]
        return sum(there) if there and len(there) == len(known) else None

    def engine(self) -> Engine | None:
        """Cycles of all these cores; None where the driver has no such file, or it says what is not known."""
        known = [_engine(read(path) or "") for path in self._engines]
        there = [one for one in known if one is not None]
        if not there or len(there) < len(known):
            return None
        return Engine(busy=sum(one.busy for one in there), idle=sum(one.idle for one in there))


def live(driver: str | None) -> bool:
    """Whether counters move while the process that works lives; else only once it has ended."""
    parts = re.match(r"(\d+)\.(\d+)\.(\d+)", driver or "", re.ASCII)
    return parts is not None and tuple(map(int, parts.groups())) >= LIVE_FROM


def moved(before: dict[str, int] | None, after: dict[str, int] | None) -> dict[str, int] | None:
    """What was counted between two readings; None where one is missing, or somebody cleared a counter."""
    if before is None or after is None:
        return None
    change = {name: count - before.get(name, 0) for name, count in after.items()}
    return None if any(count < 0 for count in change.values()) else {name: n for name, n in change.items() if n}


def failed(moved: dict[str, int] | None) -> int | None:
    """How many executions failed, by what was counted; the general status counts those with a name of their own too."""
    if moved is None:
        return None
    return max(moved.get("failure", 0), sum(count for name, count in moved.items() if name != "failure"))


def busy_share(before: Engine | None, after: Engine | None) -> float | None:
    """Share of the engine's cycles in which it worked between two readings."""
    if before is None or after is None:
        return None
    busy, idle = after.busy - before.busy, after.idle - before.idle
    return busy / (busy + idle) if busy >= 0 and idle >= 0 and busy + idle > 0 else None


def _count(path: Path) -> int | None:
    text = read(path)
    return int(text) if text is not None and re.fullmatch(r"\d+", text, re.ASCII) else None


def _engine(text: str) -> Engine | None:
    lines = text.split()
    if not lines or lines[0] != ENGINE_HEAD:
        return None
    rows = [line.split(",") for line in lines[1:]]
    if not rows or any(len(row) != 4 or not all(cell.isdecimal() for cell in row[1:]) for row in rows):
        return None
    numbers = [[int(cell) for cell in row[1:]] for row in rows]
    return Engine(busy=sum(row[0] + row[1] for row in numbers), idle=sum(row[2] for row in numbers))


def _files(folder: Path) -> Iterable[Path]:
    """Regular files; links are not followed, as sysfs has circles of them."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (path for name in sorted(names) if not (path := Path(place, name)).is_symlink())
