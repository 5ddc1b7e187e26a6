"""Prices of instances: each of one date, region and kind of purchase, several dates side by side.

A price says what was asked on a day somebody looked. The price of a date is the last one seen up to that date.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from perwatt import configs
from perwatt.errors import InputError, expected
from perwatt.hardware import systems
from perwatt.hardware.figure import DATED, Figure, Source
from perwatt.hardware.library import bibliography, place, user_folder
from perwatt.hardware.reader import Part, build, part, rule, shape
from perwatt.spec import yamlfile

Purchase = Literal["on_demand", "capacity_block", "reserved", "spot"]
Allocation = Literal["whole", "pro_rata"]


@part
class Price(Figure):
    """What one instance costs in an hour, before tax.

    Attributes:
        instance: name of a system.
        purchase: a kind; prices of different kinds are not compared unless asked for.
        regions: where it was asked; ``us`` stands for all regions of the United States that have the instance.
        date: the day it was asked.
    """

    scale: ClassVar[dict[str, float]] = {"USD/h": 1.0}
    unit: Literal["USD/h"]
    instance: str
    purchase: Purchase
    regions: tuple[str, ...] = rule(some=True)
    date: str = rule(**DATED)

    def holds_in(self, region: str) -> bool:
        """Whether it is a price of that region."""
        return region in self.regions or ("us" in self.regions and region.startswith("us-"))


@part
class Missing(Part):
    """A price that was looked for and not found."""

    instance: str
    purchase: Purchase
    reason: str


@part
class PriceList(Part):
    """A file of prices."""

    prices: tuple[Price, ...]
    missing: tuple[Missing, ...] = ()
    sources: dict[str, Source] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Dollars an hour of some chips.

    Attributes:
        allocation: ``whole`` if whole instances are paid; ``pro_rata`` if a share of one that cannot be rented alone.
    """

    usd_per_hour: float
    chips: float
    allocation: Allocation
    price: Price


@cache
def read() -> PriceList:
    """The shipped prices and before them the user's (``$PERWATT_PRICES``, else ``~/.config/perwatt/prices.yaml``).

    Raises:
        InputError: a file is wrong, or prices an instance that is no system.
    """
    given = os.environ.get("PERWATT_PRICES")
    own = Path(given or user_folder("prices").with_suffix(".yaml"))
    lists = [_list(path) for path in ([own] if given or own.is_file() else []) + [configs.root() / "prices.yaml"]]
    return PriceList(
        prices=tuple(price for each in lists for price in each.prices),
        missing=tuple(missing for each in lists for missing in each.missing),
    )


def _list(path: Path) -> PriceList:
    document = yamlfile.load(path)
    with document.placed():
        made = build(PriceList, document.value)
        where = dict.fromkeys(shape(PriceList), document)
        place(made, where, {**bibliography(), **made.sources})
        known = systems.names()
        entries: list[Any] = [("prices", made.prices), ("missing", made.missing)]
        for kind, members in entries:
            for index, member in enumerate(members):
                if member.instance not in known:
                    raise InputError(expected(member.instance, known), field=f"{kind}[{index}].instance")
    return made


def history(instance: str, purchase: str = "on_demand", region: str | None = None) -> list[Price]:
    """Prices of an instance, oldest first; of one region if asked for. Of two of one day, the user's is kept.

    Raises:
        InputError: unknown instance or kind of purchase.
    """
    if purchase not in get_args(Purchase):
        raise InputError(expected(purchase, get_args(Purchase)), field="purchase")
    systems.load(instance)
    found: dict[Any, Price] = {}
    for price in read().prices:
        if (price.instance, price.purchase) == (instance, purchase) and (region is None or price.holds_in(region)):
            found.setdefault((price.date, price.regions), price)
    return sorted(found.values(), key=lambda price: price.date)


def price(instance: str, purchase: str = "on_demand", date: str | None = None, region: str | None = None) -> Price:
    """The price of a date: the last one seen up to then, or the last of all.

    Raises:
        InputError: there is none; the message says which there are, or why there are none.
    """
    known = history(instance, purchase, region)
    seen = [price for price in known if date is None or price.date <= date]
    if seen:
        return seen[-1]
    of = f"{purchase} price of {instance}" + (f" in {region}" if region else "")
    if known:
        raise InputError(f"found no {of} up to {date}, expected {known[0].date} or later", field="date")
    reasons = [m.reason for m in read().missing if (m.instance, m.purchase) == (instance, purchase)]
    others = sorted({p.purchase for p in read().prices if p.instance == instance})
    ask = f"expected {' or '.join(others)}" if others and not region else "expected another instance or region"
    raise InputError(f"found no {of}{f' ({reasons[0]})' if reasons else ''}, {ask}", field="price")


def cost(of: Price, chips: float, allocation: Allocation = "whole") -> Cost:
    """What some chips cost an hour at a price.

    Args:
        of: price of one instance.
        chips: that work; more than one instance has are on several instances.
        allocation: ``whole`` rounds up to whole instances, since parts of one cannot be rented.
    """
    instances = chips / systems.load(of.instance).chips
    if allocation == "whole":
        instances = math.ceil(instances)
    return Cost(usd_per_hour=of.value * instances, chips=chips, allocation=allocation, price=of)
