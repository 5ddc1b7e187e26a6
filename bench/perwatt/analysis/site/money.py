"""Dollars for one hour of one chip: rented at a dated price with power in it, or bought, with power apart."""

from __future__ import annotations

from dataclasses import dataclass

from perwatt.analysis.site.assumption import Assumption, Product
from perwatt.errors import InputError
from perwatt.hardware import prices, systems
from perwatt.hardware.figure import Grade
from perwatt.hardware.prices import Price

HOURS_OF_A_YEAR = 8766.0  # leap years counted


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """How chips are paid for.

    Attributes:
        purchase: kind of price that is looked up where neither of the others is declared.
        rent: dollars an hour of one chip, by chip.
        buy: dollars for one chip with its share of the system, by chip.
        years: over which what is bought is written off.
        energy: dollars of a megawatt-hour, for what is bought.
    """

    purchase: str = "capacity_block"
    rent: dict[str, Assumption]
    buy: dict[str, Assumption]
    years: Assumption | None = None
    energy: Assumption | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Dollars.

    Attributes:
        hour: for an hour of one chip; over ``years`` where that is given.
        years: by which the hour is divided.
        energy: dollars of a megawatt-hour on top, or None where power is in the price.
        of: what it is, with its date.
        date: of a looked-up price.
        grade: of its source.
    """

    hour: Product
    years: Assumption | None = None
    energy: Assumption | None = None
    of: str
    date: str | None = None
    grade: Grade | None = None


def cost(chip: str, terms: Terms) -> Cost:
    """What a chip costs by these terms.

    Raises:
        InputError: nobody says; the message has the reason, and the option that declares it.
    """
    if chip in terms.rent:
        return Cost(hour=Product(1.0, (terms.rent[chip],)), of="rented as declared")
    if chip in terms.buy:
        if terms.years is None or terms.energy is None:
            raise InputError("no price of power or no years to write it off: --power-price, --years")
        hour = Product(1 / HOURS_OF_A_YEAR, (terms.buy[chip],))
        return Cost(hour=hour, years=terms.years, energy=terms.energy, of="bought as declared, with power")
    price, count = rented(chip, terms.purchase)
    name = f"{price.instance}-{price.purchase}-{price.date}"
    exact = Assumption(
        name=name, value=price.base, lo=price.base, hi=price.base, unit="USD/h", evidence="published",
        source=f"{price.source}, grade {price.grade}",
    )  # fmt: skip
    of = f"{price.instance}, {price.purchase} of {price.date} in {', '.join(price.regions)}"
    return Cost(hour=Product(1 / count, (exact,)), of=of, date=price.date, grade=price.grade)


def rented(chip: str, purchase: str) -> tuple[Price, int]:
    """The last price of the largest instance with the chip that has one, and the chips in it; US regions first.

    Raises:
        InputError: none is known, with the reason where one was noted.
    """
    instances = sorted((one for one in systems.all_systems().values() if one.chip == chip), key=lambda one: -one.chips)
    for instance in instances:
        known = prices.history(instance.name, purchase)
        at_home = [price for price in known if any(region.startswith("us") for region in price.regions)]
        if known:
            return (at_home or known)[-1], instance.chips
    noted = {one.reason for one in prices.read().missing if one.instance in {i.name for i in instances}}
    why = f" ({'; '.join(sorted(noted))})" if noted else ""
    raise InputError(f"no {purchase} price of {chip}{why}; --rent or --buy {chip}=USD declares one")


def measuring(chip: str, what: str) -> str:
    """A measurement with what the smallest instance that has the chip, and a price, costs an hour."""
    names = {one.name: one.chips for one in systems.all_systems().values() if one.chip == chip}
    known = [price for price in prices.read().prices if price.instance in names]
    if not known:
        return f"{what} (no price known)"
    least = min(known, key=lambda price: (names[price.instance], [-ord(letter) for letter in price.date], price.value))
    return f"{what} ({least.instance} at ${least.value:g} an hour, {least.purchase} of {least.date})"
