"""Systems: instances, servers and racks, with the chips in them, their network and what is known of their power.

Files of ``configs/systems`` each hold the systems of one family, and what a server or rack of that family takes beside
its chips (overheads). Rated power is a limit; measured power says of what and under which load.
"""

from __future__ import annotations

import math
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

from perwatt.errors import InputError, expected
from perwatt.hardware import chips
from perwatt.hardware.figure import Factor, Figure, Grade, Memory, Power, Rate, Source
from perwatt.hardware.library import Library, bibliography, place
from perwatt.hardware.reader import Part, build, part
from perwatt.hardware.sheet import CLOSE, KINDS, Basis, Link, Peak


@part
class SystemPower(Power):
    """Watts of a whole system.

    Attributes:
        kind: ``rated`` (the vendor's limit), ``planning`` (what a vendor says to provide), ``measured``, or
            ``estimated``.
        load: under which work it was measured.
    """

    kind: Literal["rated", "planning", "measured", "estimated"]
    load: str = ""


@part
class System(Part):
    """One thing that is rented or bought as a whole.

    Attributes:
        name: instance type, or the name it is sold by.
        chip: name of the chip's sheet.
        chips: how many.
        kind: ``instance``, ``server``, ``rack``, ``pod``; an UltraServer is a ``rack``.
        made_of: smaller systems in it, with their number.
        memory: of all chips together, where the vendor prints it.
        bandwidth: of all chips together to their memory, where the vendor prints it.
        scale_up: links of one chip to the others of the system.
        network: to other systems, summed over all adapters.
        power: of the whole system; empty where the vendor publishes none.
        like: a system whose power is the nearest that is known.
        peaks: of the whole system, where the vendor prints them.
    """

    name: str
    chip: str
    chips: int
    kind: Literal["instance", "server", "rack", "pod"]
    made_of: dict[str, int] = field(default_factory=dict)
    source: str
    grade: Grade
    memory: Memory | None = None
    bandwidth: Rate | None = None
    scale_up: tuple[Link, ...] = ()
    network: tuple[Rate, ...] = ()
    power: tuple[SystemPower, ...] = ()
    no_power: str = ""
    like: str = ""
    peaks: tuple[Peak, ...] = ()
    note: str = ""

    def printed_peak(self, format: str) -> Peak | None:
        """The dense peak of all of it that its own sheet prints; ``fp8`` stands for whichever of its kind it has."""
        wanted = KINDS.get(format, (format,))
        return next((peak for peak in self.peaks if set(wanted) & set(peak.formats)), None)

    def peak(self, format: str, basis: Basis = "vendor") -> float | None:
        """Dense TFLOP/s of all chips together, from the chip's sheet; None where that has none."""
        found = chips.load(self.chip).peak(format, basis=basis)
        return None if found is None else found.tflops * self.chips


@part
class Overhead(Factor):
    """What a system takes for each watt of what is inside it.

    Attributes:
        id: what results name it by.
        of: what the factor is applied to.
        gives: what it gives.
    """

    id: str
    of: Literal["chips", "server", "rated", "it"]
    gives: Literal["server", "it", "rack", "drawn", "facility"]


@part
class Grid(Figure):
    """CO2 of a grid's electricity, combustion alone or over the life cycle, as its note says; the two are not mixed.

    Attributes:
        id: what results name it by.
    """

    scale: ClassVar[dict[str, float]] = {"g/kWh": 1.0}
    unit: Literal["g/kWh"]
    id: str


@part
class Family(Part):
    """One file: systems, and overheads of that family.

    Attributes:
        base: name of a file that gives all fields which this one leaves out.
        chips: names of chips that the overheads hold for; empty for all.
    """

    family: str
    base: str | None = None
    chips: tuple[str, ...] = ()
    systems: tuple[System, ...] = ()
    overheads: tuple[Overhead, ...] = ()
    grids: tuple[Grid, ...] = ()
    sources: dict[str, Source] = field(default_factory=dict)


@cache
def families(folder: str | Path | None = None) -> tuple[Family, ...]:
    """All families, those of the user's folder last, so that their systems win.

    Raises:
        InputError: a file is wrong, or names a chip or system that there is not.
    """
    library = Library.of("systems", folder)
    read = []
    for name in sorted(library.names(), key=library.is_own):
        fields, document, where = library.read(name)
        with document.placed():
            family = build(Family, fields)
            place(family, where, {**bibliography(), **family.sources})
            _known(family)
        read.append(family)
    return tuple(read)


def _known(family: Family) -> None:
    """Refuse chips that have no sheet, and parts or likenesses that are not systems of the file."""
    here, sheets = [system.name for system in family.systems], chips.names()
    for index, system in enumerate(family.systems):
        at = f"systems[{index}]"
        if system.chip not in sheets:
            raise InputError(expected(system.chip, sheets), field=f"{at}.chip")
        for name in (*system.made_of, *([system.like] if system.like else [])):
            if name not in here:
                raise InputError(expected(name, here), field=f"{at}.{'made_of' if name in system.made_of else 'like'}")
        _adds_up(system, at)
        if not (system.power or system.no_power or system.like):
            raise InputError("found neither power nor no_power nor like, expected one", field=at)
    for index, name in enumerate(family.chips):
        if name not in sheets:
            raise InputError(expected(name, sheets), field=f"chips[{index}]")


def _adds_up(system: System, at: str) -> None:
    """Refuse what is printed of the whole where it is not that of one chip times their number."""
    totals = {"memory": system.memory, "bandwidth": system.bandwidth}
    for name, whole in totals.items():
        if whole is None:
            continue  # most print none, and their chips' sheets need not be read
        one: Figure = getattr(chips.load(system.chip), name)
        if not math.isclose(whole.base, total := one.base * system.chips, rel_tol=CLOSE):
            by = f"expected {total / whole.one:g} by {system.chips} x {system.chip}"
            raise InputError(f"found {whole.value:g} {whole.unit}, {by}", field=f"{at}.{name}")
    for index, peak in enumerate(system.peaks):
        product = system.peak(peak.formats[0], peak.basis)
        if product is None or not math.isclose(peak.tflops, product, rel_tol=CLOSE):
            found = f"found {peak.tflops:g} TFLOP/s for {peak.formats[0]}, expected "
            by = (
                "no peak, as the chip has none" if product is None else f"{product:g} by {system.chips} x {system.chip}"
            )
            raise InputError(found + by, field=f"{at}.peaks[{index}]")


def all_systems() -> dict[str, System]:
    """All systems by name."""
    return {system.name: system for family in families() for system in family.systems}


def names() -> list[str]:
    """Names of all systems."""
    return sorted(all_systems())


def load(name: str) -> System:
    """A system by name.

    Raises:
        InputError: there is none; the message has the nearest one.
    """
    known = all_systems()
    if name not in known:
        raise InputError(expected(name, known), field="system")
    return known[name]


def overheads(chip: str) -> tuple[Overhead, ...]:
    """Overheads that hold for a chip: those of its own family first, then those of all."""
    own = [family for family in families() if chip in family.chips]
    of_all = [family for family in families() if not family.chips]
    return tuple(overhead for family in own + of_all for overhead in family.overheads)


def grid(name: str) -> Grid:
    """A grid by its id, the user's first.

    Raises:
        InputError: there is none; the message has the nearest one.
    """
    known = {one.id: one for family in families() for one in family.grids}
    if name not in known:
        raise InputError(expected(name, known), field="grid")
    return known[name]
