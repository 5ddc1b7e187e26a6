"""ACPI power meter: power of the node as its firmware averages it, in the kernel's hwmon tree.

Files by the kernel's ``hwmon/acpi_power_meter.rst`` and ``hwmon/sysfs-interface.rst``: ``power1_average`` in microwatts
over ``power1_average_interval`` milliseconds. Older kernels have them in the folder ``device``. Of several meters, that
of the node is the one that measures the whole ACPI system and nothing else (ACPI 6.0, 10.4.8); the others overlap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from perwatt.power.base import Found, Lost, Probe, Reading, Target
from perwatt.power.node import GAIN, NodeSensor, node_facts

HWMON = "sys/class/hwmon"
DRIVER = "power_meter"
SYSTEM = "LNXSYBUS:"  # how Linux names the devices of \_SB
SHORTEST_S = 0.05
STEP_W = 0.001  # the driver's milliwatts; what the meter resolves is not told
INTERVALS = 20  # of averaging, in the shortest window
UNAVAILABLE = {(2**bits - 1) * 1000 % 2**64 for bits in (32, 64)}  # all bits set, times 1000 (10.4.3)


class Acpi(NodeSensor):
    """See the module."""

    name = "acpi"

    def detect(self, target: Target) -> Found:
        """Whether there is a meter of the whole node, and whether this user may read it."""
        try:
            folder = _meter(target.root)
            _number(folder / "power1_average")
        except PermissionError as error:
            return Found(
                state="denied", detail="meter is readable by root only", remedy=f"sudo chmod a+r {error.filename}"
            )
        except (OSError, ValueError) as error:
            return Found(state="absent", detail=f"meter cannot be read: {error}")
        except Lost as error:
            return Found(state="absent", detail=str(error))
        return Found(state="readable", detail=f"power meter of the node in {folder}")

    def open(self, target: Target) -> Probe:
        """The meter of the node."""
        try:
            return _Meter(_meter(target.root))
        except (OSError, ValueError, Lost) as error:
            raise Lost(f"acpi: {error}") from None


class _Meter(Probe):
    def __init__(self, folder: Path) -> None:
        self._file = folder / "power1_average"
        interval_s = max(SHORTEST_S, _number(folder / "power1_average_interval") / 1000)
        stated = _accuracy(folder)
        note = f"rolling average over {interval_s:g} s"
        self.facts = node_facts(
            "acpi", "node", update_s=interval_s, poll_s=max(SHORTEST_S, min(1.0, interval_s / 2)),
            window_s=max(60.0, INTERVALS * interval_s), resolution=STEP_W, lag_s=interval_s / 2,
            rel_sys=GAIN if stated is None else stated,
            note=note if stated is None else f"{note}; accuracy of {stated:.3%} as its firmware states",
        )  # fmt: skip

    def read(self) -> Reading | None:
        """Watts; none while the firmware has no value."""
        try:
            value = _number(self._file)
        except (OSError, ValueError) as error:
            raise Lost(f"acpi: {error}") from None
        return None if value in UNAVAILABLE else Reading(values=(value / 1e6,))


def _meter(root: Path) -> Path:
    """Folder of the meter that measures the whole node.

    Raises:
        Lost: there is no such meter, or there are several.
    """
    meters = list(_meters(root))
    whole = [folder for folder, measured in meters if len(measured) == 1 and measured[0].startswith(SYSTEM)]
    if len(whole) == 1:
        return whole[0]
    if not meters:
        raise Lost("no ACPI power meter")
    raise Lost(f"{len(meters)} ACPI power meters, of which {len(whole)} measure the whole node and nothing else")


def _meters(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders of meters that are no batteries, and the names of what each measures."""
    for entry in sorted((root / HWMON).glob("hwmon*")):
        folder = next((one for one in (entry, entry / "device") if (one / "power1_average").exists()), None)
        if folder is None or (folder / "name").read_text(encoding="ascii").strip() != DRIVER:
            continue
        battery = folder / "power1_is_battery"
        if not battery.exists() or _number(battery) == 0:
            yield folder, sorted(one.name for one in (entry / "device" / "measures").glob("*"))


def _accuracy(folder: Path) -> float | None:
    """Relative error that the meter states; None where it states none, or one that cannot be meant.

    The driver writes thousandths of a percent as ``whole.rest%`` without leading zeros in the rest. Firmware gives the
    error or how near the value is to the truth, so whichever of both is small is the error.
    """
    try:
        text = (folder / "power1_accuracy").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    matched = re.fullmatch(r"(\d{1,3})\.(\d{1,3})%", text)
    if matched is None:
        return None
    percent = int(matched[1]) + int(matched[2]) / 1000
    error = min(percent, 100 - percent) / 100
    return error if 0 < error <= 0.2 else None


def _number(path: Path) -> int:
    """Raises OSError or ValueError."""
    text = path.read_text(encoding="ascii").strip()
    if not text.isdecimal():
        raise ValueError(f"{path.name} is {text[:40]!r}")
    return int(text)


SENSOR = Acpi()
