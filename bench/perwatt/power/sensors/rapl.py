"""RAPL: energy counters of x86 packages and their memory, Intel and AMD, in the kernel's powercap tree.

Files by the kernel's documentation ``power/powercap/powercap.rst``: ``energy_uj`` counts microjoules and begins anew
after ``max_energy_range_uj``. The counters leave out fans, drives, network and what power supplies lose.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from perwatt.power.base import Facts, Found, Lost, Probe, Reading, Sensor, Target, Use

POWERCAP = "sys/class/powercap"
UPDATE_S = 0.001  # Intel SDM 3B, 16.10.3: energy status is updated about every millisecond
POLL_S = 0.1  # each reading costs a busy core up to a quarter of a millisecond
WINDOW_S = 5.0
STEP_J = 2.0**-14  # the usual energy status unit, 61 microjoules; AMD's is smaller
GAIN = 0.05  # assumed: no vendor states one for what is modelled or measured behind the counter


class Rapl(Sensor):
    """See the module."""

    name = "rapl"
    priority = 50

    def use(self, target: Target) -> Use:
        """The chips of a CPU; the host of everything else."""
        return "chips" if target.backend == "cpu" else "host"

    def detect(self, target: Target) -> Found:
        """Whether there are counters, and whether this user may read them."""
        zones = list(_zones(target.root))
        if not zones:
            return Found(state="absent", detail="no powercap counters (a virtual machine, or not x86)")
        try:
            for zone in zones:
                _number(zone / "energy_uj")
        except PermissionError:
            files = " ".join(str(zone / "energy_uj") for zone in zones)
            return Found(state="denied", detail="counters are readable by root only", remedy=f"sudo chmod a+r {files}")
        except (OSError, ValueError) as error:
            return Found(state="absent", detail=f"counters cannot be read: {error}")
        return Found(state="readable", detail="counters of " + ", ".join(_name(zone) for zone in zones))

    def open(self, target: Target) -> Probe:
        """All packages and their memory: a process is not bound to one of them."""
        if not (zones := list(_zones(target.root))):
            raise Lost("rapl: no powercap counters")
        return _Counters(zones)


class _Counters(Probe):
    def __init__(self, zones: list[Path]) -> None:
        self._files = [zone / "energy_uj" for zone in zones]
        try:
            wrap = tuple(_number(zone / "max_energy_range_uj") / 1e6 for zone in zones)
        except (OSError, ValueError) as error:
            raise Lost(f"rapl: max_energy_range_uj cannot be read: {error}") from None
        self.facts = Facts(
            sensor="rapl", source="counter", scope="package", quantity="J", kind="counter",
            channels=tuple(_name(zone) for zone in zones), update_s=UPDATE_S, poll_s=POLL_S, window_s=WINDOW_S,
            resolution=STEP_J, rel_sys=GAIN, wrap=wrap,
        )  # fmt: skip

    def read(self) -> Reading:
        """Joules of each package and its memory."""
        try:
            return Reading(values=tuple(_number(path) / 1e6 for path in self._files))
        except (OSError, ValueError) as error:
            raise Lost(f"rapl: {error}") from None


def _zones(root: Path) -> Iterator[Path]:
    """Packages, each followed by its memory. What lies inside a package (cores, graphics) is part of it already."""
    for package in sorted((root / POWERCAP).glob("intel-rapl:[0-9]*")):
        if package.name.count(":") > 1 or not _name(package).startswith("package"):
            continue  # psys spans the platform and holds the packages
        yield package
        yield from (part for part in sorted(package.glob(f"{package.name}:[0-9]*")) if _name(part).endswith("dram"))


def _name(zone: Path) -> str:
    """``package-0``; of memory, which is named alike in every package, ``package-0/dram``."""
    try:
        own = (zone / "name").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return zone.name
    return own if zone.name.count(":") == 1 else f"{_name(zone.parent)}/{own}"


def _number(path: Path) -> float:
    """Raises OSError or ValueError."""
    value = int(path.read_text(encoding="ascii"))
    if value < 0:
        raise ValueError(f"{path.name} is {value}")
    return float(value)


SENSOR = Rapl()
