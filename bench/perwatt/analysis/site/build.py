"""A site's answer from what was asked: options for every system and width of format, choices, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from perwatt.analysis.levels import Allowance
from perwatt.analysis.sides import Side
from perwatt.analysis.site import by_sheet, money, power, rates
from perwatt.analysis.site.assumption import Assumption, Product, nominal
from perwatt.analysis.site.choice import Choice, choose
from perwatt.analysis.site.money import Cost, Terms
from perwatt.analysis.site.plan import GIGA, HOUR_S, METRICS, Option, drawn_values, intervals
from perwatt.analysis.site.rates import Rate, Rates, Task
from perwatt.errors import InputError, expected
from perwatt.hardware import chips, systems
from perwatt.hardware.systems import System

MOST_MW = 1e5  # a hundred gigawatts: ten times the largest campus that anybody has announced
BOUND = "upper bound: nobody declared what is left of a chip's rate at the size of the site (--scaling)"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a user says of the site.

    Attributes:
        mw: megawatts of the facility at its peak.
        task: that is trained.
        systems: names of systems to choose between; empty for one of each chip that rows of the task have.
        scaling: share of a row's rate that is left at the size of the site, downtime in it; None where undeclared.
        pue_peak: of the facility at its peak, and ``pue`` over a year; None for the default factors.
        carbon: grams of CO2 of a kilowatt-hour.
        terms: how chips are paid for.
        mfu: shares of the sheet's peak, by chip and width of format.
        watts: of one chip at full load, by chip.
        objective: metric that options are chosen by.
        draws: of the Monte Carlo.
        seed: of the draws.
        allowance: for what too few chips cannot tell.
    """

    mw: float
    task: Task
    systems: tuple[str, ...] = ()
    scaling: Assumption | None = None
    pue_peak: Assumption | None = None
    pue: Assumption | None = None
    carbon: Assumption | None = None
    terms: Terms
    mfu: dict[tuple[str, int], Assumption]
    watts: dict[str, Assumption]
    objective: str = "tokens_per_day"
    draws: int = 20_000
    seed: int = 0
    allowance: Allowance = field(default_factory=Allowance)

    def __post_init__(self) -> None:
        if not 0 < self.mw <= MOST_MW:
            raise InputError(f"found {self.mw:g}, expected megawatts above 0 and up to {MOST_MW:g}", field="--mw")
        if self.objective not in METRICS:
            raise InputError(expected(self.objective, METRICS), field="--objective")
        self._check_facility()

    def facility(self, chip: str) -> power.Facility:
        """What the building adds: as declared, else by default."""
        usual = power.facility(chip)
        return power.Facility(peak=self.pue_peak or usual.peak, mean=self.pue or usual.mean)

    def _check_facility(self) -> None:
        """Nobody's year is worse than the peak that the site is built for."""
        found = self.facility("")
        if (self.pue or self.pue_peak) and found.mean.value > found.peak.value:
            year, peak = (
                f"{one.value:g}{'' if one.evidence == 'declared' else ' (default)'}" for one in (found.mean, found.peak)
            )
            message = f"found {year} over a year and {peak} at peak, expected no more than at peak"
            raise InputError(message, field="--pue" if self.pue else "--pue-peak")


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """The answer.

    Attributes:
        asked: what was asked.
        options: what the power could buy.
        choices: the best of each width of format.
        notes: what is missing or was left out, one line each.
    """

    asked: Asked
    options: tuple[Option, ...]
    choices: tuple[Choice, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The same of plain values, as ``perwatt site --json`` prints it."""
        figures = {name: one for option in self.options for name, one in option.assumptions().items()}
        return {
            "mw": self.asked.mw, "task": asdict(self.asked.task), "objective": self.asked.objective,
            "draws": self.asked.draws, "seed": self.asked.seed, "notes": list(self.notes),
            "options": [self.plain(option) for option in self.options],
            "choices": [_plain(choice) for choice in self.choices],
            "assumptions": [asdict(one) for _, one in sorted(figures.items())],
        }  # fmt: skip

    def plain(self, option: Option) -> dict[str, Any]:
        """One option with its results: nominal values and 95 % intervals."""
        values = asdict(option.nominal())
        spread = intervals(option.at(drawn_values(option.assumptions(), self.asked.draws, self.asked.seed)))
        results = {
            name: None if value is None else {"value": float(value), "lo": spread[name][0], "hi": spread[name][1]}  # type: ignore[index]
            for name, value in values.items()
        }
        cost = option.cost
        return {
            "name": option.name, "system": option.system.name, "chip": option.system.chip,
            "precision": option.rate.precision, "width": option.rate.width, "evidence": option.rate.evidence,
            "rate_of": option.rate.of, "mfu": option.rate.mfu, "chips_of_row": option.rate.chips,
            "tokens_per_s_per_chip": option.rate.value, "upper_bound": option.scaling is None,
            "energy_upper_bound": option.drawn_is_bound, "measured_power": option.rate.draw is not None,
            "cost": {"of": cost.of, "date": cost.date} if isinstance(cost, Cost) else None,
            "no_cost": None if isinstance(cost, Cost) else cost, "tie_usd_per_chip_hour": self.tie(option),
            "assumptions": sorted(option.assumptions()), "results": results,
        }  # fmt: skip

    def tie(self, option: Option) -> float | None:
        """Dollars for a chip-hour, power in it, at which tokens cost as much as on the cheapest of the same width."""
        known = [
            float(found) for one in self.options
            if one.rate.width == option.rate.width and (found := one.nominal().usd_per_gtok) is not None
        ]  # fmt: skip
        if not known or isinstance(option.cost, Cost):
            return None
        rate = option.rate.value * (option.scaling.value if option.scaling else 1.0)
        return min(known) * rate * HOUR_S / GIGA


def _plain(choice: Choice) -> dict[str, Any]:
    figures = [
        {
            "name": one.figure.name, "unit": one.figure.unit, "value": one.figure.value, "lo": one.figure.lo,
            "hi": one.figure.hi, "evidence": one.figure.evidence, "settle": one.figure.settle, "best_at_lo": one.at_lo,
            "best_at_hi": one.at_hi, "lead_lo": one.lead_lo, "lead_hi": one.lead_hi, "tie": one.tie,
            "worth": one.worth, "changes": one.changes,
        }
        for one in choice.figures
    ]  # fmt: skip
    return {name: getattr(choice, name) for name in ("width", "metric", "best", "lead")} | {
        "chance": dict(choice.chance), "out": dict(choice.out), "figures": figures,
    }  # fmt: skip


def site(sides: Sequence[Side], asked: Asked) -> Site:
    """The answer to what was asked, by rows of these sides and the sheets."""
    found = rates.read(sides, asked.task, asked.allowance)
    notes = list(found.notes)
    if not found.best:
        notes.append(
            f"no row of {asked.task}: perwatt site takes training steps of the task, whole models on whole chips"
        )
    options: list[Option] = []
    for name in asked.systems or _usual(found):
        system = systems.load(name)
        made, said = _options(system, found, asked)
        options += made
        notes += said
    widths = sorted({one.rate.width for one in options}, reverse=True)
    made_choices = (
        choose([one for one in options if one.rate.width == width], asked.objective, asked.draws, asked.seed)
        for width in widths
    )
    notes += _bounds(options)
    return Site(
        asked=asked, options=tuple(options), choices=tuple(one for one in made_choices if one), notes=tuple(notes)
    )


def _usual(found: Rates) -> list[str]:
    """For each chip with rows the system whose power somebody rates, else the largest."""
    names = []
    for chip in dict.fromkeys(chip for chip, _ in found.best):
        with_it = [one for one in systems.all_systems().values() if one.chip == chip and one.kind != "pod"]
        if with_it:
            names.append(max(with_it, key=lambda one: (bool(one.power), one.chips)).name)
    return names


def _options(system: System, found: Rates, asked: Asked) -> tuple[list[Option], list[str]]:
    """Options of one system, one for each width of format that anything is known of; and why there is none."""
    chip = chips.load(system.chip)
    widths = sorted({*found.widths, *(bits for name, bits in found.printed if name == chip.name)}, reverse=True)
    known = [
        rate for width in widths
        if (rate := _rate(chip, width, found, asked)) is not None
    ]  # fmt: skip
    if not known:
        return [], [f"{system.name}: no row of {asked.task} on {chip.name}, and no MFU to take with its sheet (--mfu)"]
    try:
        machine = power.machine(system, chip, asked.watts.get(chip.name))
    except InputError as error:
        return [], [f"{system.name}: {error.message}"]
    options = [_option(system, rate, machine, asked) for rate in known]
    small = [one for one in options if not one.nominal().chips]
    notes = [f"{small[0].system.name}: not one fits {asked.mw:g} MW"] if small else []
    costs = [one.cost for one in options if isinstance(one.cost, str)]
    notes += [f"{system.name}: no dollars: {costs[0]}"] if costs else []
    return [one for one in options if one not in small], notes


def _rate(chip: chips.Chip, width: int, found: Rates, asked: Asked) -> Rate | None:
    declared = asked.mfu.get((chip.name, width))
    own = found.best.get((chip.name, width))
    return own if own is not None and declared is None else by_sheet.rate(chip, width, found, asked.task, declared)


def _option(system: System, rate: Rate, machine: Product, asked: Asked) -> Option:
    building = asked.facility(system.chip)
    scaling = asked.scaling and replace(
        asked.scaling, name=f"{system.chip}-scaling", settle=f"the same step on more chips of {system.chip}"
    )
    drawn, bound = power.drawn(machine, system.chip, building, rate.draw)
    cost: Cost | str
    try:
        cost = money.cost(system.chip, asked.terms)
    except InputError as error:
        cost = error.message
    return Option(
        system=system, rate=rate, scaling=scaling, provided=power.provided(machine, system.chip, building),
        drawn=drawn, drawn_is_bound=bound, cost=cost, carbon=asked.carbon, site_mw=asked.mw,
    )  # fmt: skip


def _bounds(options: Sequence[Option]) -> list[str]:
    """What is a bound and not an estimate."""
    notes = []
    if options and all(one.scaling is None for one in options):
        notes.append(BOUND)
    for one in options:
        figures = one.assumptions().values()
        if one.drawn_is_bound:
            notes.append(f"{one.name}: energy is an upper bound, nobody says what of the rating is drawn")
        if float(one.provided.at(nominal(figures))) < float(one.drawn.at(nominal(figures))):
            notes.append(f"{one.name}: draws more on average than is provided at peak; its rating is too low")
    return notes
