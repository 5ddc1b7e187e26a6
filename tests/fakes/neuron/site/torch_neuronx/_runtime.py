"""The runtime: which cores this process sees, and owning them, from its start until the process ends."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

LIVE_DRIVER = "2.30.2"
_owned: list[Any] = []
_owner = 0
_forked = False


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What ``fakes/neuron/machine.py`` has laid out.

    Attributes:
        folder: of the machine: ``root`` with the driver's files, ``cores`` with who owns them.
        chips: how many.
        cores: physical ones of a chip.
        lnc: physical cores of a logical one, where nobody sets another.
        memory_bytes: of one device.
        driver: version that is loaded.
        runtime: version.
    """

    folder: Path
    chips: int
    cores: int
    lnc: int
    memory_bytes: int
    driver: str
    runtime: str

    @property
    def kind(self) -> str:
        """Of its chips, as the driver calls them."""
        devices = self.folder / "root/sys/devices/virtual/neuron_device"
        return next(devices.rglob("device_name")).read_text().strip()

    def count(self, name: str) -> None:
        """The driver counts an event: every file of that name, or of a status of that name, goes up by one."""
        for path in (self.folder / "root/sys/devices/virtual/neuron_device").rglob(name):
            target = path / "total" if path.is_dir() else path
            target.write_text(f"{int(target.read_text()) + 1}\n")


@cache
def machine() -> Machine:
    """The machine this process runs on.

    Raises:
        RuntimeError: there is no device.
    """
    folder = Path(os.environ.get("FAKE_NEURON_MACHINE", "/nowhere"))
    if not (folder / "machine.json").exists():
        raise RuntimeError("No neuron device available. Driver may not be installed")
    return Machine(folder=folder, **json.loads((folder / "machine.json").read_text()))


def lnc() -> int:
    """Physical cores of a logical one."""
    return int(
        os.environ.get("NEURON_LOGICAL_NC_CONFIG") or os.environ.get("NEURON_RT_VIRTUAL_CORE_SIZE") or machine().lnc
    )


def visible() -> list[int]:
    """Numbers of the logical cores that this process may take."""
    there = list(range(machine().chips * machine().cores // lnc()))
    asked = os.environ.get("NEURON_RT_VISIBLE_CORES", "").strip()
    if asked:
        chosen: list[int] = []
        for part in asked.split(","):
            first, _, last = part.partition("-")
            chosen += range(int(first), int(last or first) + 1)
        if set(chosen) - set(there):
            raise RuntimeError(f"nrt_init failed: NEURON_RT_VISIBLE_CORES={asked}, cores here are 0-{there[-1]}")
        return chosen
    count = int(os.environ.get("NEURON_RT_NUM_CORES", "0") or "0")
    return _free(there)[:count] if count else there


def device_count() -> int:
    """Logical cores that this process sees."""
    return len(_owned) or len(visible())


def started() -> bool:
    """Whether the runtime is up in this process."""
    return bool(_owned)


def in_bad_fork() -> bool:
    """Whether this process was forked from one whose runtime was up."""
    return _forked


def start() -> None:
    """Take the cores.

    Raises:
        RuntimeError: one belongs to another process, driver and runtime do not fit, or this process was forked.
    """
    from . import _extension

    global _owner
    if _forked:
        raise RuntimeError("Cannot re-initialize Neuron runtime in forked subprocess. Use the 'spawn' start method")
    if _owned:
        return
    driver, runtime = (tuple(map(int, text.split(".")[:2])) for text in (machine().driver, machine().runtime))
    if driver >= (2, 29) and runtime < (2, 33):  # release notes of the runtime, SDK 2.31
        raise RuntimeError(f"nrt_init failed: driver {machine().driver} needs runtime 2.33, found {machine().runtime}")
    wanted = visible()
    _extension.C.show(len(wanted))
    for core in wanted:
        owned = _take(core)
        if owned is None:
            _owned.clear()
            raise RuntimeError(
                f"nrt_init failed: NeuronCore(s) not available - Requested:nc{wanted[0]}-nc{wanted[-1]} "
                f"Available:{len(_free(wanted))}"
            )
        _owned.append(owned)
    _owner = os.getpid()
    _extension.C.started(True)


def _take(core: int) -> Any:
    """Own all physical cores of a logical one, or None."""
    taken = []
    for physical in range(core * lnc(), (core + 1) * lnc()):
        file = (machine().folder / "cores" / str(physical)).open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        taken.append(file)
    return taken


def _free(cores: list[int]) -> list[int]:
    free = []
    for core in cores:
        taken = _take(core)
        if taken is not None:
            free.append(core)
            for file in taken:
                file.truncate(0)
                file.close()
    return free


def _after_fork() -> None:
    global _forked
    _forked = bool(_owned)


os.register_at_fork(after_in_child=_after_fork)
