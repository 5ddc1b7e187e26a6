"""Figures of sheets for one side of a claim: how much of what, by which arithmetic, how sure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from perwatt.analysis.claims.claim import Claim, Side
from perwatt.errors import InputError
from perwatt.hardware import chips, prices
from perwatt.hardware.chips import Chip
from perwatt.hardware.figure import UNDATED, Figure
from perwatt.hardware.sheet import Watts
from perwatt.hardware.systems import System

PFLOPS = 1e15
YEAR = 12  # months after a claim from which prices are others than it was made at


class NoFigureError(Exception):
    """The sheets have no such figure; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """What a side has.

    Attributes:
        value: in the base unit, with what the bands that are meant to be varied leave below and above.
        text: the arithmetic.
        grade: the worst of the figures in it.
        assumed: names of watts that are an assumption.
        notes: what else to say.
        open: why it decides nothing although it is known; empty where it does.
        wants: figures with which it would.
    """

    value: float
    lo: float
    hi: float
    text: str
    grade: str
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """A side with its sheets: some chips, and the system that they are in, if it is one."""

    chip: Chip
    count: int
    system: System | None
    format: str
    printed: bool = False


def term(claim: Claim, side: Side) -> Term:
    """The figure of a side by the claim's metric.

    Raises:
        NoFigureError: there is none.
    """
    quantity = claim.quantity
    if side.value is not None:
        one = quantity.units.get(side.unit)
        if one is None:
            raise NoFigureError(f"{side.title} is no figure of {quantity.title}")
        base = side.value * one
        return Term(value=base, lo=base, hi=base, text=f"{side.value:g} {side.unit}", grade="C", notes=_said(side.note))
    if not side.chip:
        raise NoFigureError(f"there is no sheet of {side.title}")
    system = side.system
    count = 1 if system is None or quantity.per_chip else system.chips
    thing = Thing(chip=chips.load(side.chip), count=count, system=system, format=side.format, printed=side.printed)
    return FIGURES[quantity.sheet](thing, claim)


def over(a: Term, b: Term) -> Term:
    """One figure over another, each end by the ends that make it so."""
    return Term(
        value=a.value / b.value, lo=a.lo / b.hi, hi=a.hi / b.lo, text=f"{_inner(a.text)} / {_inner(b.text)}",
        grade=max(a.grade, b.grade), assumed=tuple(dict.fromkeys((*a.assumed, *b.assumed))),
        notes=tuple(dict.fromkeys((*a.notes, *b.notes))), open=tuple(dict.fromkeys((*a.open, *b.open))),
        wants=tuple(dict.fromkeys((*a.wants, *b.wants))),
    )  # fmt: skip


def _inner(text: str) -> str:
    return f"({text})" if " x " in text or " / " in text else text


def _said(note: str) -> tuple[str, ...]:
    return (note,) if note else ()


def _times(count: int, figure: Figure) -> Term:
    """So many of one; the band of the figure, not what other sources print, is what may be varied."""
    ends = [figure.low or figure.value, figure.high or figure.value]
    scale = count * figure.one
    times = f"{count:,} x " if count > 1 else ""
    others = ", ".join(f"{other.value:g}" for other in figure.others)
    return Term(
        value=figure.value * scale, lo=min(ends) * scale, hi=max(ends) * scale,
        text=f"{times}{figure.value:,g} {figure.unit}", grade=figure.grade,
        notes=(f"other sources print {others} {figure.unit} for {figure.value:g}",) if others else (),
    )  # fmt: skip


def _peak(thing: Thing, claim: Claim) -> Term:
    if not thing.format:
        raise NoFigureError(f"the claim names no number format for {thing.chip.name}, of which there are several peaks")
    if thing.printed and thing.system and (whole := thing.system.printed_peak(thing.format)):
        return _times(1, whole)
    found = thing.chip.peak(thing.format)
    if found is None:
        raise NoFigureError(f"the sheet of {thing.chip.name} has no peak in {thing.format}")
    return _times(thing.count, found)


def _power(thing: Thing, claim: Claim) -> Term:
    """Of the system where somebody says it, else of its chips, which is less and decides nothing of a system."""
    if thing.system and thing.system.power:
        return _times(1, thing.system.power[0])
    watts: Watts | None = thing.chip.power
    if watts is None:
        raise NoFigureError(f"{thing.chip.name} has no watts to assume: {thing.chip.no_watts}")
    known = _times(thing.count, watts)
    if watts.kind == "assumption":
        measured = f"watts of {thing.chip.name} that are published or measured, in place of {watts.id}"
        known = replace(known, assumed=(watts.id,), wants=(measured,))
    if thing.system is None:
        return known
    unknown = f"nobody publishes the power of {thing.system.name}: only watts of its chips are in it"
    return replace(known, open=(unknown,), wants=(*known.wants, f"the power of {thing.system.name}"))


def _per_watt(thing: Thing, claim: Claim) -> Term:
    return over(_peak(thing, claim), _power(thing, claim))


def _cost(thing: Thing, claim: Claim) -> Term:
    """Dollars for a petaflop-hour at the peak."""
    if thing.system is None:
        raise NoFigureError(f"{thing.chip.name} has no price by itself: instances have")
    try:
        price = prices.price(thing.system.name, claim.purchase, claim.price_date)
    except InputError as error:
        raise NoFigureError(error.message) from None
    peak = _peak(thing, claim)
    dollars = price.value / (peak.value / PFLOPS)
    text = f"{price.value:g} USD/h / ({peak.text})"
    note = f"{thing.system.name}: {dollars:.3g} USD for a PFLOP/s hour at the peak, {price.purchase}, {price.dated}"
    said = _months(claim.when)
    late = said is None or (_months(price.dated) or 0) - said > YEAR
    other = (f"the claim is of {claim.when}, and was made at other prices than those of {price.dated}",) if late else ()
    return Term(
        value=dollars,
        lo=dollars,
        hi=dollars,
        text=text,
        grade=max(price.grade, peak.grade),
        notes=(note,),
        open=other,
        wants=(f"a price of {thing.system.name} of {claim.when}",) if late else (),
    )


def _months(date: str) -> int | None:
    """Months since the year 0 of a date; the last of the year where it says no month, None where it says nothing."""
    if date == UNDATED:
        return None
    year, month = (*date.split("-")[:2], str(YEAR))[:2]
    return 12 * int(year) + int(month)


def _link(thing: Thing, claim: Claim) -> Term:
    if not thing.chip.links:
        raise NoFigureError(f"the sheet of {thing.chip.name} has no link")
    return _times(1, thing.chip.links[0])


def _chips(thing: Thing, claim: Claim) -> Term:
    return Term(value=thing.count, lo=thing.count, hi=thing.count, text=f"{thing.count:,} chips", grade="A")


FIGURES: dict[str, Callable[[Thing, Claim], Term]] = {
    "peak": _peak,
    "peak_per_watt": _per_watt,
    "memory": lambda thing, claim: _times(thing.count, thing.chip.memory),
    "bandwidth": lambda thing, claim: _times(thing.count, thing.chip.bandwidth),
    "link": _link,
    "chips": _chips,
    "power": _power,
    "cost_of_peak": _cost,
}
"""Figures of sheets by what :class:`~perwatt.analysis.claims.quantities.Quantity` calls them."""
