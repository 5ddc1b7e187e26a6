"""Watts of a site for each chip: what is provided at peak, and what is drawn on average.

A site is built for the peak: the system's rating, its network, and cooling on the hottest day. Energy is paid for on
average: what of the rating is drawn, and the year's PUE. The two never stand for each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from perwatt.analysis.site.assumption import Assumption, Product, of_figure
from perwatt.errors import InputError
from perwatt.hardware import systems
from perwatt.hardware.chips import Chip
from perwatt.hardware.systems import Overhead, System, SystemPower

PROVIDED = ("planning", "rated", "estimated")  # kinds of system power that say what to provide, the best first
PEAK, MEAN = "peak-facility", "pue-aws"
AT_THE_WALL = "a meter on the whole system while it trains"
BOARD, NODE = ("chips", "it", "facility"), ("it", "facility")
BEYOND = {
    "die": BOARD,
    "package": BOARD,
    "gpu_board": BOARD,
    "module": BOARD,
    "node": NODE,
    "rack": NODE,
    "facility": (),
}
"""What of a site is not in what a sensor sees, by its scope."""
STEPS = {"chips": ("server", "rack"), "it": ("it",), "drawn": ("drawn",)}
"""What overheads give that are one step: from chips to servers, from those to all machines, from rated to drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facility:
    """What the building adds to its machines.

    Attributes:
        peak: at the peak that it is built for.
        mean: over a year.
    """

    peak: Assumption
    mean: Assumption


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """Power that a row measured.

    Attributes:
        watts: of one chip, by a sensor that sees ``scope``.
    """

    watts: Assumption
    scope: str


def facility(chip: str) -> Facility:
    """The default: factors that hold for any chip."""
    return Facility(peak=_factor(chip, PEAK, "the site's meter"), mean=_factor(chip, MEAN, "the site's meter"))


def machine(system: System, chip: Chip, declared: Assumption | None) -> Product:
    """Watts of a chip and its share of the system, as they have to be provided.

    The system's own rating, or a like one's, where there is one and no watts are declared; else the chip's watts times
    what its family's servers take beside them.

    Raises:
        InputError: nobody says the watts, or what stands beside the chips.
    """
    rating = _rating(system)
    if rating is not None and declared is None:
        name, power = rating
        one = of_figure(f"{name}-power", power, "W", AT_THE_WALL)
        return Product(1.0 / systems.load(name).chips, (one,))
    settle = f"the power of one {chip.name} at full load, by an outside meter (perwatt calibrate-power)"
    watts = declared or (of_figure(chip.power.id, chip.power, "W", settle) if chip.power else None)
    if watts is None:
        raise InputError(f"no watts: {chip.no_watts}; --watts {chip.name}=LO-HI declares them")
    around = _overhead(chip.name, "chips")
    if around is None:
        raise InputError(f"no factor from the chips of {system.name} to its servers: give one (docs: chips, systems)")
    return Product(1.0, (watts, around))


def provided(machines: Product, chip: str, site: Facility) -> Product:
    """Watts of the facility at its peak for each chip."""
    return machines.times(_overhead(chip, "it"), site.peak)


def drawn(machines: Product, chip: str, site: Facility, measured: Draw | None) -> tuple[Product, bool]:
    """Watts of the facility over a year for each chip that trains, and whether that is an upper bound only.

    Measured power takes the place of the rating, with what its sensor does not see added.
    """
    if measured is not None:
        parts = [site.mean if part == "facility" else _overhead(chip, part) for part in BEYOND[measured.scope]]
        return Product(1.0, (measured.watts,)).times(*parts), False
    share = _overhead(chip, "drawn")
    return machines.times(share, _overhead(chip, "it"), site.mean), share is None


def _rating(system: System) -> tuple[str, SystemPower] | None:
    """The name of the system whose power is taken, and that power."""
    for one in (system, *([systems.load(system.like)] if system.like else [])):
        for kind in PROVIDED:
            for power in one.power:
                if power.kind == kind:
                    return one.name, power
    return None


def _overhead(chip: str, step: str) -> Assumption | None:
    """The factor of one step for a chip: that of its own family first, then that of all."""
    found = next((overhead for overhead in systems.overheads(chip) if overhead.gives in STEPS[step]), None)
    return None if found is None else _assumed(found, AT_THE_WALL)


def _factor(chip: str, name: str, settle: str) -> Assumption:
    found = next((overhead for overhead in systems.overheads(chip) if overhead.id == name), None)
    if found is None:
        raise InputError(f"found no overhead {name!r} for {chip}, expected one in configs/systems")
    return _assumed(found, settle)


def _assumed(overhead: Overhead, settle: str) -> Assumption:
    return of_figure(overhead.id, overhead, "1", settle)
