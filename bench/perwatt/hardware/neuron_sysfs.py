"""Neuron chips and their files in the driver's sysfs tree, found by search and only ever read.

Driver 2.31 moved files without keeping the old places, so a file is known by its name within its chip's folder and,
where that is not enough, by what it says. Some files of the tree reset a chip or a counter when they are written to:
nothing here opens a file for writing. Sources: the Neuron sysfs user guide of SDK 2.32, and the driver's own source.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from perwatt.hardware.cgroup import ROOT, read

DEVICES = "sys/devices/virtual/neuron_device"
MODULE = "sys/module/neuron/version"
POWER_MARK = "POWER_STATUS_"  # how the minute's line begins; other files are named `utilization` too
# Dies with a power sensor of their own: the driver's address maps V2 (Trainium1, Inferentia2) and V3 (Trainium2).
# Trainium3 is dual-die as well.
DIES = {"Trainium1": 1, "Inferentia2": 1, "Trainium2": 2, "Trainium3": 2}
ECC = ("mem_ecc_uncorrected", "mem_ecc_repairable_uncorrected", "sram_ecc_uncorrected", "mem_ecc_corrected",
       "sram_ecc_corrected")  # fmt: skip
UNHEALTHY = "unhealthy_components"
_WANTED = {"utilization", "utilization_raw", "device_name", "serial_number", "core_count", "instance_type", UNHEALTHY,
           *ECC}  # fmt: skip


class Ambiguous(RuntimeError):
    """Several files of a chip could be the one that is looked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NeuronChip:
    """A chip and what its folder holds.

    Attributes:
        number: as in ``neuron<N>``.
        folder: of the chip.
        files: where each file that this module knows was found, by name.
    """

    number: int
    folder: Path
    files: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name for people and for channels: ``neuron3``."""
        return f"neuron{self.number}"

    @property
    def device_name(self) -> str | None:
        """Such as ``Trainium2``."""
        return self._text("device_name")

    @property
    def family(self) -> str | None:
        """Family of instances, such as ``Trn2``: no more than that is told."""
        return self._text("instance_type")

    @property
    def dies(self) -> int | None:
        """Dies with a power sensor; None where the kind of chip is not known."""
        return DIES.get(self.device_name or "")

    @property
    def cores(self) -> int | None:
        """Physical NeuronCores."""
        return _count(self._text("core_count"))

    @property
    def identity(self) -> str | None:
        """Hash of the serial number, which itself is nobody's business."""
        serial = self._text("serial_number")
        return hashlib.sha256(f"perwatt chip {serial}".encode()).hexdigest()[:16] if serial else None

    @property
    def ecc(self) -> dict[str, int]:
        """Counts of memory errors that the driver shows. It shows 0 for a register it cannot read: 0 proves nothing."""
        counts = {name: [_count(read(path)) for path in self.files.get(name, ())] for name in ECC}
        known = {name: [count for count in found if count is not None] for name, found in counts.items()}
        return {name: sum(found) for name, found in known.items() if found}

    @property
    def unhealthy(self) -> tuple[str, ...] | None:
        """Parts that the driver calls unhealthy; None where it does not say (before driver 2.30)."""
        said = [text for path in self.files.get(UNHEALTHY, ()) if (text := read(path)) is not None]
        return tuple(part.strip() for text in said for part in text.split(",") if part.strip()) if said else None

    def minutes(self) -> Path | None:
        """The file with the last minute's power, or None.

        Raises:
            Ambiguous: there are several.
            OSError: a file of that name cannot be read.
        """
        return self._one("utilization", [path for path in self.files.get("utilization", ()) if _is_minutes(path)])

    def live(self) -> Path | None:
        """The file with the power of each die now (from driver 2.29 on), or None.

        Raises:
            Ambiguous: there are several.
        """
        return self._one("utilization_raw", self.files.get("utilization_raw", []))

    def _text(self, name: str) -> str | None:
        said = {text for path in self.files.get(name, ()) if (text := read(path)) is not None}
        return said.pop() if len(said) == 1 else None

    def _one(self, name: str, found: list[Path]) -> Path | None:
        if len(found) > 1:
            places = ", ".join(str(path.relative_to(self.folder)) for path in found)
            raise Ambiguous(f"{self.label} has {len(found)} files {name} that could be its power: {places}")
        return found[0] if found else None


def chips(root: Path = ROOT) -> list[NeuronChip]:
    """Every chip of this machine, by number. Empty without the Neuron driver."""
    numbered = ((re.fullmatch(r"neuron(\d+)", path.name), path) for path in (root / DEVICES).glob("neuron*"))
    found = sorted((int(match[1]), path) for match, path in numbered if match)
    return [NeuronChip(number=number, folder=folder, files=_search(folder)) for number, folder in found]


def driver_version(root: Path = ROOT) -> str | None:
    """Version of the module that is loaded, which ``modinfo`` does not tell: it reads the one on the disk."""
    return read(root / MODULE) or None


def _search(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in _files(folder):
        if path.name in _WANTED:
            found.setdefault(path.name, []).append(path)
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Regular files of a chip.

    Links are not followed: sysfs has circles of them. Cores are left out: what is in their folders belongs to one of
    them, and is thousands of files.
    """
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not re.fullmatch(r"neuron_core\d+", name))
        yield from (path for name in sorted(names) if not (path := Path(place, name)).is_symlink() and path.is_file())


def _is_minutes(path: Path) -> bool:
    return path.read_text(encoding="ascii", errors="replace").startswith(POWER_MARK)


def _count(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d+", text, re.ASCII) else None
