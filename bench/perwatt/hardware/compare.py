"""Chips side by side, by their sheets: peaks, memory and links, and peaks for each nominal watt.

A comparison of sheets says what chips could do at most, not what they do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from perwatt import configs
from perwatt.hardware.chips import Chip
from perwatt.hardware.figure import Figure
from perwatt.hardware.library import bibliography
from perwatt.hardware.sheet import KINDS, Basis, Peak, Watts

EIGHT_BIT = "any 8-bit float"
QUANTITIES = {
    **{kind: (kind,) for kind in KINDS if kind not in ("fp4", "int8")},
    EIGHT_BIT: ("fp8", "mxfp8"),
    "fp4": ("fp4",),
    "int8": ("int8",),
}
"""Lines of peaks, each with the kinds of format it takes the highest peak of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One value of one chip, with the lowest and highest that sources or bands allow.

    Attributes:
        what: what it is of, where that is not plain (``e4m3fn``, ``trainium2-500w``).
        assumed: whether watts are in it that nobody publishes.
    """

    value: float
    lo: float
    hi: float
    what: str = ""
    assumed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One quantity of every chip; None where a chip has none."""

    quantity: str
    unit: str
    cells: tuple[Cell | None, ...]

    def ratios(self) -> tuple[float | None, ...]:
        """Every chip's value over the first one's."""
        first = self.cells[0]
        return tuple(cell.value / first.value if cell and first and first.value else None for cell in self.cells)


def lines(chips: Sequence[Chip], basis: Basis = "vendor") -> Iterator[Line]:
    """What the sheets say of each chip, quantity by quantity; quantities that no chip has are left out."""
    peaks = {name: [_highest(chip, kinds, basis) for chip in chips] for name, kinds in QUANTITIES.items()}
    for name, found in peaks.items():
        unit = "TOP/s" if name == "int8" else "TFLOP/s"
        yield from _line(name, unit, [peak and _cell(peak[1], 1e12, _format(name, peak[0])) for peak in found])
    yield from _line("memory", "GB", [_cell(chip.memory, 1e9) for chip in chips])
    yield from _line("bandwidth", "TB/s", [_cell(chip.bandwidth, 1e12) for chip in chips])
    yield from _line("link", "GB/s", [_cell(c.links[0], 1e9, c.links[0].name) if c.links else None for c in chips])
    balance = [peak and _over(peak[1], chip.bandwidth, 1.0) for peak, chip in zip(peaks["bf16"], chips, strict=True)]
    yield from _line("bf16 at the ridge", "FLOP/B", balance)
    yield from _line("nominal power", "W", [_watts(chip.power) if chip.power else None for chip in chips])
    for name, found in peaks.items():
        unit = "TOP/s/W" if name == "int8" else "TFLOP/s/W"
        each = [_per_watt(name, chip, peak) for chip, peak in zip(chips, found, strict=True)]
        yield from _line(f"{name} per nominal watt", unit, each)


def notes(chips: Sequence[Chip]) -> Iterator[str]:
    """Which watts were taken for each chip, and why there are none."""
    for chip in chips:
        if chip.power is None:
            yield f"{chip.name}: no watts: {chip.no_watts}"
        else:
            band = f", {chip.power.lo:g} to {chip.power.hi:g}" if chip.power.lo < chip.power.hi else ""
            yield f"{chip.name}: {chip.power.value:g} W{band}, {_origin(chip, chip.power)} ({chip.power.id})"


def _origin(chip: Chip, watts: Watts) -> str:
    """What the watts are, and by whom where they are not from a shipped sheet."""
    kind = {"rated": "limit", "assumption": "an assumption", "measured": "measured"}[watts.kind]
    if Path(watts.file).is_relative_to(configs.root()):
        return "the vendor's limit" if watts.kind == "rated" else kind
    source = {**bibliography(), **chip.sources}[watts.source]
    return f"{kind} by {source.title!r} in {watts.file}"


def _highest(chip: Chip, kinds: Sequence[str], basis: Basis) -> tuple[str, Peak] | None:
    """Format and peak of the fastest of some kinds of format."""
    names = [name for kind in kinds for name in KINDS[kind]]
    found = [(name, peak) for name in names if (peak := chip.peak(name, basis=basis))]
    return max(found, key=lambda item: item[1].tflops, default=None)


def _format(quantity: str, name: str) -> str:
    return "" if name == quantity else name


def _cell(figure: Figure, scale: float, what: str = "") -> Cell:
    one = figure.one / scale
    return Cell(value=figure.value * one, lo=figure.lo * one, hi=figure.hi * one, what=what)


def _watts(watts: Watts) -> Cell:
    return replace(_cell(watts, 1.0, watts.id), assumed=watts.kind == "assumption")


def _over(figure: Figure, other: Figure, scale: float, what: str = "") -> Cell:
    a, b = _cell(figure, scale), _cell(other, 1.0)
    return Cell(value=a.value / b.value, lo=a.lo / b.hi, hi=a.hi / b.lo, what=what)


def _per_watt(quantity: str, chip: Chip, peak: tuple[str, Peak] | None) -> Cell | None:
    if not peak or not chip.power:
        return None
    return replace(_over(peak[1], chip.power, 1e12, _format(quantity, peak[0])), assumed=_watts(chip.power).assumed)


def _line(quantity: str, unit: str, cells: Sequence[Cell | None]) -> Iterator[Line]:
    if any(cells):
        yield Line(quantity=quantity, unit=unit, cells=tuple(cells))
