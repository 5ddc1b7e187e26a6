"""Peaks that the MFU of published rows is worked out with: those of the shipped chip sheets, and no other.

A user's own sheets change what a measurement is compared with, never what is kept in the repository.
"""

from __future__ import annotations

from functools import cache

from perwatt import configs
from perwatt.errors import InputError
from perwatt.hardware.chips import Chip, Shelf
from perwatt.hardware.sheet import Peak, Unit

SAME_PEAK = {"bf16_sr": "bf16"}  # stochastic rounding costs no operations


def sheet(name: str) -> Chip:
    """A shipped chip sheet.

    Raises:
        InputError: there is none of that name; the message has the nearest one.
    """
    return _shelf().load(name)


def peak(chip: str, precision: str, unit: Unit = "chip", lnc: int | None = None) -> Peak:
    """Dense peak of a chip, or of one of its devices, in a number format.

    Raises:
        InputError: no such chip, or its sheet has no peak for the format.
    """
    found = sheet(chip).peak(SAME_PEAK.get(precision, precision), unit=unit, lnc=lnc)
    if found is None:
        raise InputError(f"the sheet {chip!r} has no peak for {precision!r}", field="precision")
    return found


@cache
def _shelf() -> Shelf:
    return Shelf(configs.root() / "chips")
