"""A claim: a sentence that somebody printed, taken apart into what it says of what, so that it can be judged."""

from __future__ import annotations

import math
from dataclasses import field, replace
from typing import Literal, get_args

from perwatt.analysis.claims.quantities import QUANTITIES, Quantity
from perwatt.errors import InputError, expected
from perwatt.hardware import chips, systems
from perwatt.hardware.figure import DATED, ROUGHLY, Grade, Source
from perwatt.hardware.prices import Purchase
from perwatt.hardware.reader import Part, part, rule
from perwatt.hardware.sheet import KINDS, SHEET_FORMATS

Scope = Literal["chip", "instance", "server", "ultraserver", "rack", "pod", "cluster", "service"]
Quantifier = Literal["up_to", "at_least", "about"]
Form = Literal["ratio", "saving"]
Iso = Literal["nothing", "power", "energy", "chips", "price"]
UNSPECIFIED = "unspecified"
FORMATS = (*KINDS, *(name for name in SHEET_FORMATS if name not in KINDS))


def a_scope(scope: str) -> str:
    """A scope with its article: ``an UltraServer``."""
    title = "UltraServer" if scope == "ultraserver" else scope
    return f"{'an' if title[0] in 'aeioU' else 'a'} {title}"


@part
class Side(Part):
    """One side of a claim: a chip or system that has a sheet, a figure, or the name of what has no sheet.

    Attributes:
        of: name of a chip's sheet, or of a system.
        format: number format that its peak is of.
        value: a figure of its own, in ``unit``, where there is no sheet to take it from.
        called: what it is, where it has neither.
        named: whether the claim names it; else it was taken to stand for something unnamed, and decides nothing.
        printed: whether its peak is what the sheet of the system prints, rather than the chip's so many times.
    """

    of: str = ""
    format: str = ""
    value: float | None = rule(None, above=0)
    unit: str = ""
    called: str = ""
    named: bool = True
    printed: bool = False
    note: str = ""

    def check(self) -> None:
        """Refuse a side that is not exactly one of the three, or names what is not there."""
        if sum((bool(self.of), self.value is not None, bool(self.called))) != 1:
            raise InputError("expected exactly one of: of, value, called")
        if self.of and self.of not in (known := [*chips.names(), *systems.names()]):
            raise InputError(expected(self.of, known, "a chip or system"), field="of")
        if self.printed and (self.system is None or self.system.printed_peak(self.format) is None):
            raise InputError(
                f"found true, expected a system whose sheet has a peak in {self.format!r}", field="printed"
            )
        if self.format and self.format not in FORMATS:
            raise InputError(expected(self.format, FORMATS), field="format")

    @property
    def chip(self) -> str:
        """Name of the chip's sheet; empty where there is none."""
        return "" if not self.of else self.of if self.of in chips.names() else systems.load(self.of).chip

    @property
    def system(self) -> systems.System | None:
        """The system; None for a chip by itself."""
        return systems.load(self.of) if self.of and self.of not in chips.names() else None

    @property
    def title(self) -> str:
        """What to call it."""
        return self.of or self.called or f"{self.value:g} {self.unit}"


@part
class Bar(Part):
    """The figure that a claim puts up.

    Attributes:
        metric: what it is of, one of :data:`~perwatt.analysis.claims.quantities.QUANTITIES`.
        value: as printed: a ratio, a share that is saved, or a figure in ``unit``.
        to: upper end, where a range is printed.
        printed_digits: significant digits as printed: 4.36 supports 4.4, 3.80 does not support 3.9.
        form: ``ratio`` (times better) or ``saving`` (0.4 for 40 % less).
        unit: of a claim without a denominator.
    """

    metric: str
    value: float = rule(above=0)
    to: float | None = rule(None, above=0)
    printed_digits: int = 2
    quantifier: Quantifier
    form: Form = "ratio"
    unit: str = ""

    def check(self) -> None:
        """Refuse an unknown metric, an unknown unit, and a range that is none."""
        if self.metric not in QUANTITIES:
            raise InputError(expected(self.metric, QUANTITIES, "a metric"), field="metric")
        if self.unit and self.unit not in self.quantity.units:
            raise InputError(expected(self.unit, self.quantity.units, "no unit"), field="unit")
        if self.to is not None and (self.to <= self.value or self.quantifier != "about"):
            raise InputError(f"found {self.to:g}, expected more than the value, with quantifier about", field="to")
        if self.form == "saving" and max(self.value, self.to or 0.0) >= 1:
            raise InputError(f"found {self.to or self.value:g}, expected a share below 1", field="value")

    @property
    def quantity(self) -> Quantity:
        """What the metric is."""
        return QUANTITIES[self.metric]

    @property
    def ends(self) -> tuple[float, float]:
        """Lowest and highest figure that is printed so, by its digits."""
        upper = self.value if self.to is None else self.to
        return self.value - self._half(self.value), upper + self._half(upper)

    def _half(self, value: float) -> float:
        """Half of one in the last printed digit."""
        return 0.5 * 10.0 ** (math.floor(math.log10(value)) - self.printed_digits + 1)

    @property
    def said(self) -> str:
        """As people say it: ``at least 4 x``, ``up to 50 % less``."""
        return f"{self.quantifier.replace('_', ' ')} {self.figure}"

    @property
    def figure(self) -> str:
        """The figure by itself: ``4 x``, ``50 % less``."""
        shown = [f"{100 * one:g}" if self.form == "saving" else f"{one:g}" for one in (self.value, self.to) if one]
        unit = "% less" if self.form == "saving" else self.unit or "x"
        return f"{' to '.join(shown)} {unit}"


@part
class Shown(Part):
    """Arithmetic that is shown beside a verdict and has no part in it; what is left out is the claim's own."""

    what: str = rule(some=True)
    metric: str = ""
    numerator: Side | None = None
    denominator: Side | None = None
    price_date: str | None = rule(None, **DATED)
    unit: str = ""

    def check(self) -> None:
        """Refuse an unknown metric."""
        if self.metric and self.metric not in QUANTITIES:
            raise InputError(expected(self.metric, QUANTITIES, "a metric"), field="metric")


@part
class Printed(Source):
    """Where a claim was printed, which may not say its day, month or year."""

    date: str = rule(**ROUGHLY)


@part
class Cases(Part):
    """Rows that test a claim: cases of a suite, by their names, in which ``*`` stands for anything."""

    suite: str = rule(some=True)
    only: tuple[str, ...] = rule(some=True)


@part
class Claim(Bar):
    """One claim.

    Attributes:
        claim: its name, which is the file's.
        row: of the collection of published claims that it is from; several claims may be of one row.
        headline: shown before the others.
        statement: the sentence, shortened.
        who: said it.
        when: they said it, as far as that is known.
        source: key in the bibliography.
        scope: what the claim is of. A claim about a system is not judged from chips.
        workload: named, or ``unspecified``.
        model: that a row's case has to name, where the claim names one.
        format: that rows have to be of; ``unspecified`` for any, ``sides`` for those of the two sides.
        iso: what is held equal.
        price_date: of the prices that a claim about cost is judged by.
        besides: what has to hold too.
        shown: arithmetic beside it.
        disputed: why the figures of the sheets decide nothing.
        not_testable: why no row of ours or anybody's could test it.
        tested_by: rows that test it, where they are not those of the metric.
    """

    claim: str = rule(pattern=r"[a-z0-9][a-z0-9.-]*", doc="small letters, digits, dots and hyphens")
    row: str = ""
    headline: bool = False
    statement: str = rule(some=True)
    who: str = rule(some=True)
    when: str = rule(**ROUGHLY)
    source: str
    grade: Grade
    numerator: Side
    denominator: Side | None = None
    scope: Scope
    workload: str = UNSPECIFIED
    model: str = ""
    format: str = UNSPECIFIED
    iso: Iso = "nothing"
    price_date: str | None = rule(None, **DATED)
    purchase: str = "on_demand"
    besides: tuple[Bar, ...] = ()
    shown: tuple[Shown, ...] = ()
    disputed: str = ""
    not_testable: str = ""
    tested_by: Cases | None = None
    note: str = ""
    sources: dict[str, Printed] = field(default_factory=dict)
    file: str = rule("", own=True)

    def check(self) -> None:
        """Refuse what the fields by themselves allow."""
        super().check()
        known = (UNSPECIFIED, "sides", *FORMATS)
        if self.format not in known:
            raise InputError(expected(self.format, known), field="format")
        if self.purchase not in get_args(Purchase):
            raise InputError(expected(self.purchase, get_args(Purchase)), field="purchase")
        if self.denominator is None and not self.unit:
            raise InputError("found no denominator and no unit, expected one of the two", field="denominator")
        if self.denominator is not None and self.unit:
            raise InputError("found a denominator and a unit, expected a ratio without one", field="unit")
        for index, bar in enumerate(self.besides):
            if bool(bar.unit) != bool(self.unit):
                message = f"found {bar.unit or 'no unit'!r}, expected a unit where the claim has one, and only there"
                raise InputError(message, field=f"besides[{index}].unit")
        for index, shown in enumerate(self.shown):
            changed = self.with_(shown)
            if changed.denominator is None and changed.unit not in changed.quantity.units:
                raise InputError(expected(changed.unit, changed.quantity.units), field=f"shown[{index}].unit")

    @property
    def sides(self) -> tuple[Side, ...]:
        """Both sides, the numerator first; one where there is no denominator."""
        return (self.numerator,) if self.denominator is None else (self.numerator, self.denominator)

    @property
    def conditions(self) -> tuple[Claim, ...]:
        """All that has to hold: the claim itself, then a claim for each of ``besides``."""
        names = ("metric", "value", "to", "printed_digits", "quantifier", "form", "unit")
        own = [{name: getattr(bar, name) for name in names} for bar in self.besides]
        return replace(self, besides=()), *(replace(self, besides=(), shown=(), **fields) for fields in own)

    def with_(self, shown: Shown) -> Claim:
        """This claim with what a line of arithmetic changes."""
        denominator = shown.denominator or (None if shown.unit else self.denominator)
        return replace(
            self, metric=shown.metric or self.metric, numerator=shown.numerator or self.numerator,
            denominator=denominator, price_date=shown.price_date or self.price_date,
            unit="" if denominator else shown.unit or self.unit,
        )  # fmt: skip
