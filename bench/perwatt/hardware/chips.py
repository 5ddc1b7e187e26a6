"""Chips by name: by the sheet's own, or by exactly what torch, NVML or the Neuron driver call them. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from perwatt.errors import InputError, expected
from perwatt.hardware import sparse
from perwatt.hardware.figure import Figure
from perwatt.hardware.library import Library, bibliography, figures, place
from perwatt.hardware.reader import OWN, build, part, rule
from perwatt.hardware.sheet import KINDS, Basis, Peak, Sheet, Unit, Watts
from perwatt.spec import kinds
from perwatt.spec.yamlfile import of_kind


@part
class Chip(Sheet):
    """A chip sheet with what is asked of it.

    Attributes:
        replaced: peaks of the sheet that this one changes or stands before, where it has its own.
    """

    replaced: tuple[Peak, ...] = rule((), **OWN)

    @property
    def memory_bytes(self) -> float:
        """Capacity of the device memory."""
        return self.memory.base

    @property
    def bandwidth_bytes(self) -> float:
        """Bytes a second between chip and device memory."""
        return self.bandwidth.base

    @property
    def power(self) -> Watts | None:
        """The nominal watts: the vendor's limit, or a named assumption; None where there is not even one."""
        return next((watts for watts in self.watts if watts.default), None)

    def devices_per_chip(self, lnc: int | None = None) -> int:
        """Torch devices of the chip.

        Raises:
            InputError: the chip has no such LNC.
        """
        by_lnc = self.devices.by_lnc if self.devices else {"1": 1}
        key = str(lnc if lnc is not None else self.devices.default if self.devices else 1)
        if key not in by_lnc:
            raise InputError(expected(key, by_lnc), field="lnc")
        return by_lnc[key]

    def peak(self, format: str, unit: Unit = "chip", basis: Basis = "vendor", lnc: int | None = None) -> Peak | None:
        """Dense peak for one number format of the operands; None where the sheet has none.

        Args:
            format: as in :mod:`perwatt.spec.precision`, besides ``int8``, ``nvfp4`` and the like; ``fp8`` and ``fp4``
                stand for whichever of their kind the chip has.
            unit: part of the chip. What is not printed for a part is worked out from the whole chip.
            basis: as the vendor prints it, or cores x array x clock.
            lnc: logical NeuronCore configuration that devices are counted by; the chip's default if None.
        """
        for name in KINDS.get(format, (format,)):
            if found := self._peak(name, unit, basis, lnc):
                return found
        return None

    def _peak(self, format: str, unit: Unit, basis: Basis, lnc: int | None) -> Peak | None:
        peaks = {peak.per: peak for peak in self.peaks if format in peak.formats and peak.basis == basis}
        if unit in peaks:
            return peaks[unit]
        count = self.devices_per_chip(lnc) if unit == "device" else self.cores.count if self.cores else 0
        if "chip" not in peaks or not count or unit == "chip":
            return None
        return peaks["chip"].derived(1 / count, f"peak of the chip / {count} {unit}s", per=unit, arithmetic=None)

    def conflicts(self) -> Iterator[tuple[str, Figure]]:
        """Figures on which sources disagree, by their path."""
        return ((path, figure) for path, figure in figures(self) if figure.others)

    def sparse(self) -> Iterator[str]:
        """Warnings of peaks that look like sparse ones."""
        return sparse.warnings(self.peaks, self.replaced)


class Shelf:
    """All chips of the shipped folder and one of the user's."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self._library = Library.of("chips", folder)
        self._chips: dict[str, Chip] = {}

    def names(self) -> list[str]:
        """Names of all chips."""
        return self._library.names()

    def all(self) -> list[Chip]:
        """All chips, by name."""
        return [self._named(name) for name in self.names()]

    def load(self, name: str) -> Chip:
        """A chip by name or alias, in upper or lower case.

        Raises:
            InputError: there is none; the message has the nearest one. Or its file, or any of the user's, is wrong.
        """
        for own in self._library.own():
            self._named(own)  # whatever lies in the folder is judged the same, asked for or not
        wanted = name.casefold()
        if wanted in self._chips or wanted in self.names():
            return self._named(wanted)
        chips = self.all()
        for chip in chips:
            if wanted in (alias.casefold() for alias in chip.aliases):
                return chip
        raise InputError(_unknown(name, [chip.name for chip in chips]), field="chip")

    def by(self, kind: str, name: str) -> Chip | None:
        """The chip that software calls exactly so, the user's first, or None: a name is never guessed at.

        Args:
            kind: a field of :class:`~perwatt.hardware.sheet.Names`.
            name: the name as the software gives it.

        Raises:
            InputError: two chips have the name, or a sheet is wrong.
        """
        found = [chip for chip in self.all() if any(name == entry.name for entry in getattr(chip.names, kind))]
        found = [chip for chip in found if self._library.is_own(chip.name)] or found
        if len(found) > 1:
            both = " and ".join(chip.name for chip in found)
            raise InputError(f"found {name!r} in {both}, expected it in one sheet", field=f"names.{kind}")
        return found[0] if found else None

    def _named(self, name: str) -> Chip:
        if name not in self._chips:
            self._chips[name] = _chip(self._library, name)
        return self._chips[name]


def _unknown(name: str, known: list[str]) -> str:
    """As :func:`~perwatt.errors.expected`, with every name that the one asked for is the beginning of (``h100``)."""
    text = expected(name, known)
    longer = [repr(other) for other in known if name and other.startswith(name.casefold())]
    return f"{text.partition(' (did you mean')[0]} (did you mean {' or '.join(longer)}?)" if longer else text


def _chip(library: Library, name: str) -> Chip:
    fields, document, where = library.read(name)
    kinds.expect(document, "chip")
    for said, unsaid in (("watts", "no_watts"), ("no_watts", "watts")):
        if where.get(said) is document is not where.get(unsaid):
            fields.pop(unsaid, None)  # of the base, which says the opposite
    with document.placed():
        _of_name(fields, name)
        chip = build(Chip, fields)
        place(chip, where, {**bibliography(), **chip.sources})
    return replace(chip, replaced=_replaced(library, name))


def _replaced(library: Library, name: str) -> tuple[Peak, ...]:
    """Peaks that the sheet has put its own in place of."""
    document = library.replaced(name, "peaks")
    if document is None:
        return ()
    with document.placed():
        entries = of_kind("peaks", document.value["peaks"], list)
        return tuple(build(Peak, entry, f"peaks[{index}]") for index, entry in enumerate(entries))


def _of_name(fields: dict[str, Any], name: str) -> None:
    if fields.get("name", name) != name:
        raise InputError(f"found {fields['name']!r}, expected {name!r} as the file is called", field="name")


@cache
def shelf(folder: str | None = None) -> Shelf:
    """The chips of the shipped folder and the user's, read once."""
    return Shelf(folder)


def names() -> list[str]:
    """Names of all chips."""
    return shelf().names()


def load(name: str) -> Chip:
    """A chip by name or alias; raises InputError with the nearest name."""
    return shelf().load(name)


def by_torch_name(name: str) -> Chip | None:
    """The chip for which ``torch.cuda.get_device_name`` gives exactly this."""
    return shelf().by("torch", name)


def by_nvml_name(name: str) -> Chip | None:
    """The chip for which NVML and nvidia-smi give exactly this."""
    return shelf().by("nvml", name)


def known(name: str) -> Chip | None:
    """The chip of a row: by the sheet's own name, else by exactly what torch or NVML call it."""
    if name in names():
        return load(name)
    return by_torch_name(name) or by_nvml_name(name)


def by_neuron_name(name: str) -> Chip | None:
    """The chip that the Neuron driver's sysfs calls so (``info/architecture/device_name``)."""
    return shelf().by("neuron_sysfs", name)


def by_instance_type(name: str) -> Chip | None:
    """The chip of an EC2 instance type, by its family (``trn2.48xlarge``: ``trn2``)."""
    return shelf().by("instance_families", name.partition(".")[0])
