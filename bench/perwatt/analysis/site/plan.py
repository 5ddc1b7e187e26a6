"""The plan of a site: options that its power could buy, each with what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from perwatt.analysis.site.assumption import Assumption, Product, Value, Values, nominal
from perwatt.analysis.site.money import Cost
from perwatt.analysis.site.rates import Rate
from perwatt.analysis.table import Floats
from perwatt.hardware.systems import System

DAY_S, HOUR_S, MEGA, GIGA = 86400.0, 3600.0, 1e6, 1e9
MWH_J = MEGA * HOUR_S
PERCENTILES = (2.5, 97.5)

METRICS = {
    "tokens_per_day": ("token/day", 1), "tokens_per_mwh": ("token/MWh", 1), "usd_per_gtok": ("USD/Gtoken", -1),
    "t_co2_per_gtok": ("t/Gtoken", -1),
}  # fmt: skip
"""What options may be chosen by: unit, and whether more is better (1) or less (-1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What comes out of one option; of many draws at once, or of one set of values.

    Attributes:
        chips: in whole systems.
        provided_mw: power that these chips take of the site's, at its peak.
        average_mw: power over a year of training.
        tokens_per_day: trained.
        tokens_per_mwh: trained, by average power.
        usd_per_gtok: dollars of a billion tokens; None without a price.
        t_co2_per_gtok: tonnes of CO2 of a billion tokens, of the power alone; None without a grid.
    """

    chips: Value
    provided_mw: Value
    average_mw: Value
    tokens_per_day: Value
    tokens_per_mwh: Value
    usd_per_gtok: Value | None
    t_co2_per_gtok: Value | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One way to spend the power: whole systems of one chip, training in formats of one width.

    Attributes:
        system: that is placed.
        rate: tokens a second of one chip.
        scaling: share of that rate that is left at the size of the site; None if nobody declared it.
        provided: watts of the site at its peak for each chip.
        drawn: watts of the site over a year for each chip.
        drawn_is_bound: nobody says what of the rating is drawn, so that the energy is an upper bound.
        cost: of the chips, or why there is none.
        carbon: grams of CO2 of a kilowatt-hour; None without a grid.
        site_mw: what the site has at its peak.
    """

    system: System
    rate: Rate
    scaling: Assumption | None
    provided: Product
    drawn: Product
    drawn_is_bound: bool
    cost: Cost | str
    carbon: Assumption | None
    site_mw: float

    @property
    def name(self) -> str:
        """The system and the format."""
        return f"{self.system.name}, {self.rate.precision}"

    def assumptions(self) -> dict[str, Assumption]:
        """Every figure it rests on, by name."""
        parts = [*self.rate.tokens.of, *self.provided.of, *self.drawn.of]
        if isinstance(self.cost, Cost):
            parts += [*self.cost.hour.of, *(one for one in (self.cost.years, self.cost.energy) if one)]
        parts += [one for one in (self.scaling, self.carbon) if one]
        return {one.name: one for one in parts}

    def at(self, values: Values) -> Result:
        """What comes out with these values of its figures."""
        each, mean = self.provided.at(values), self.drawn.at(values)
        systems = np.floor(self.site_mw * MEGA / (each * self.system.chips))
        chips = systems * self.system.chips
        rate = self.rate.tokens.at(values) * (values[self.scaling.name] if self.scaling else 1.0)
        joules = mean / rate  # of one token
        grams = None if self.carbon is None else values[self.carbon.name] / (1e3 * HOUR_S)  # of one joule
        return Result(
            chips=chips, provided_mw=chips * each / MEGA, average_mw=chips * mean / MEGA,
            tokens_per_day=chips * rate * DAY_S, tokens_per_mwh=MWH_J / joules,
            usd_per_gtok=self._usd(values, rate, joules),
            t_co2_per_gtok=None if grams is None else joules * grams / MEGA * GIGA,
        )  # fmt: skip

    def _usd(self, values: Values, rate: Value, joules: Value) -> Value | None:
        if isinstance(self.cost, str):
            return None
        hour = self.cost.hour.at(values) / (values[self.cost.years.name] if self.cost.years else 1.0)
        power = values[self.cost.energy.name] / MWH_J * joules if self.cost.energy else 0.0
        found: Value = (hour / HOUR_S / rate + power) * GIGA
        return found

    def nominal(self) -> Result:
        """With every figure at its value: the calculation that can be made by hand."""
        return self.at(nominal(self.assumptions().values()))


def drawn_values(assumptions: Mapping[str, Assumption], count: int, seed: int) -> dict[str, Value]:
    """Draws of every figure, the same for the same names and seed."""
    return {name: one.draws(count, seed) for name, one in assumptions.items()}


def intervals(result: Result) -> dict[str, tuple[float, float] | None]:
    """The 95 % interval of each quantity of many draws; None of what is not known."""
    found: dict[str, tuple[float, float] | None] = {}
    for one in fields(result):
        values: Value | None = getattr(result, one.name)
        found[one.name] = None if values is None else _ends(np.asarray(values, dtype=np.float64))
    return found


def _ends(values: Floats) -> tuple[float, float]:
    lo, hi = np.percentile(values, PERCENTILES)
    return float(lo), float(hi)
