"""Which meters of power this machine has, found by looking at files only: nothing is started, nothing is read out."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from perwatt.hardware.cgroup import ROOT, read

POWERCAP = "sys/class/powercap"
NEURON = "sys/devices/virtual/neuron_device"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensor:
    """One way to learn about power.

    Attributes:
        state: ``readable``, ``denied`` (there, but not for this user) or ``absent``.
        detail: what was found, or why there is nothing.
        remedy: what would make it readable; empty where nothing would.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""


def sensors(root: Path = ROOT) -> list[Sensor]:
    """Every sensor that is looked for, present or not."""
    return [rapl(root), nvml(), neuron(root)]


def rapl(root: Path = ROOT) -> Sensor:
    """Energy counters of x86 packages (Intel and AMD) in the kernel's powercap tree."""
    counters = sorted((root / POWERCAP).glob("intel-rapl:[0-9]*/energy_uj"))
    packages = [path for path in counters if path.parent.name.count(":") == 1]
    if not packages:
        return Sensor(name="rapl", state="absent", detail="no powercap counters (a virtual machine, or not x86)")
    try:
        for path in packages:
            path.read_text(encoding="ascii")
    except PermissionError:
        remedy = f"sudo chmod a+r {' '.join(str(path) for path in packages)}"
        return Sensor(name="rapl", state="denied", detail="counters are readable by root only", remedy=remedy)
    except OSError as error:
        return Sensor(name="rapl", state="absent", detail=f"counters cannot be read: {error.strerror}")
    return Sensor(name="rapl", state="readable", detail=f"{len(packages)} package counters")


def nvml(library: str = "libnvidia-ml.so.1") -> Sensor:
    """NVIDIA's management library. That it is there does not say that a GPU is."""
    try:
        ctypes.CDLL(library)
    except OSError:
        remedy = "install the NVIDIA driver, if there is a GPU"
        return Sensor(name="nvml", state="absent", detail=f"no {library}", remedy=remedy)
    return Sensor(name="nvml", state="readable", detail=f"{library} loads")


def neuron(root: Path = ROOT) -> Sensor:
    """Power percentages of the Neuron driver, which are no watts. Driver 2.31 moved the files, so they are searched."""
    chips = sorted((root / NEURON).glob("neuron[0-9]*"))
    if not chips:
        remedy = "install aws-neuronx-dkms, if this is a Trainium"
        return Sensor(name="neuron", state="absent", detail="no Neuron driver", remedy=remedy)
    version = read(root / "sys/module/neuron/version") or "unknown version"
    found = [path for chip in chips for path in chip.glob("**/utilization") if _is_power(path)]
    if not found:
        return Sensor(name="neuron", state="absent", detail=f"driver {version}, {len(chips)} chips, no power file")
    detail = f"driver {version}, percentages of {len(found)} chips, no watts"
    return Sensor(name="neuron", state="readable", detail=detail)


def _is_power(path: Path) -> bool:
    return (read(path) or "").startswith("POWER_STATUS_")
