"""A figure from the literature: a number that is never without unit, source, date and grade.

Sheets of chips, systems and prices are made of figures. Where sources disagree, the figure keeps every value it met and
says how the disagreement was handled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar

from perwatt.hardware.reader import OWN, Part, part, rule

Grade = Literal["A", "B", "C"]
GRADES = {
    "A": "published by the vendor: data sheet, documentation, price list",
    "B": "reputable third party, peer-reviewed measurement, or dated capture of a vendor's page",
    "C": "estimate, back-calculation, hearsay, or arithmetic on other figures",
}
DATE = r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?"
DATED = {"pattern": DATE, "doc": "YYYY-MM or YYYY-MM-DD"}
"""Rules of a field with a date."""
UNDATED = "undated"
ROUGHLY = {"pattern": rf"{UNDATED}|\d{{4}}|{DATE}", "doc": f"YYYY-MM-DD, YYYY-MM, YYYY or {UNDATED}"}
"""Rules of a field with the date of what may not say its day, month or year."""
F = TypeVar("F", bound="Figure")


@part
class Source(Part):
    """One entry of the bibliography."""

    title: str = rule(some=True)
    location: str = rule(some=True, doc="address, repository and path, or where else to find it")
    date: str = rule(**DATED)


@part
class Other(Part):
    """Another value that was met for the same thing, in the same unit."""

    value: float = rule(above=0)
    source: str
    grade: Grade
    note: str = ""


@part
class Figure(Part):
    """One number.

    Attributes:
        value: in ``unit``.
        source: key in the bibliography.
        grade: see :data:`GRADES`.
        date: of the figure, where it is not the source's.
        low: lower end of a band that is meant to be varied, in ``unit``.
        high: its upper end.
        others: values of other sources.
        handling: why ``value`` was preferred, where sources disagree.
        file: it was read from; empty for one made by hand.
        line: of that file.
        source_date: date of the source.
    """

    scale: ClassVar[dict[str, float]] = {}  # units and what one of them is in the base unit

    value: float = rule(above=0)
    unit: str
    source: str
    grade: Grade
    date: str | None = rule(None, **DATED)
    low: float | None = None
    high: float | None = None
    others: tuple[Other, ...] = ()
    handling: str = ""
    note: str = ""
    file: str = rule("", **OWN)
    line: int = rule(0, **OWN)
    source_date: str = rule("", **OWN)

    @property
    def base(self) -> float:
        """The value in the base unit: FLOP/s, bytes, bytes/s, watts, USD."""
        return self.value * self.one

    @property
    def one(self) -> float:
        """One of the unit in the base unit."""
        return self.scale[self.unit]

    @property
    def lo(self) -> float:
        """Lowest value that a source or the band gives; ``value`` where there is no other."""
        return min([self.value, *(other.value for other in self.others), *_given(self.low)])

    @property
    def hi(self) -> float:
        """Highest value that a source or the band gives; ``value`` where there is no other."""
        return max([self.value, *(other.value for other in self.others), *_given(self.high)])

    @property
    def dated(self) -> str:
        """Date of the figure, else of its source."""
        return self.date or self.source_date

    def put(self, file: str, line: int, source_date: str) -> None:
        """Remember where it was read and the date of its source."""
        for name, value in (("file", file), ("line", line), ("source_date", source_date)):
            object.__setattr__(self, name, value)

    def derived(self: F, factor: float, note: str, **changes: Any) -> F:
        """This figure times a factor: arithmetic, so of grade C, with the place it was worked out from."""
        others = tuple(replace(other, value=other.value * factor) for other in self.others)
        band = {name: bound * factor for name in ("low", "high") if (bound := getattr(self, name)) is not None}
        return replace(self, value=self.value * factor, grade="C", note=note, others=others, **band, **changes)


def _given(value: float | None) -> list[float]:
    return [] if value is None else [value]


@part
class Compute(Figure):
    """A rate of operations; a multiply-add is two."""

    scale: ClassVar[dict[str, float]] = {"TFLOP/s": 1e12, "PFLOP/s": 1e15, "TOP/s": 1e12}
    unit: Literal["TFLOP/s", "PFLOP/s", "TOP/s"]

    @property
    def tflops(self) -> float:
        """In 1e12 operations a second."""
        return self.base / 1e12


@part
class Memory(Figure):
    """A capacity."""

    scale: ClassVar[dict[str, float]] = {"GB": 1e9, "GiB": float(2**30), "TB": 1e12, "TiB": float(2**40)}
    unit: Literal["GB", "GiB", "TB", "TiB"]


@part
class Rate(Figure):
    """Bytes or bits moved in a second."""

    scale: ClassVar[dict[str, float]] = {"GB/s": 1e9, "TB/s": 1e12, "GiB/s": float(2**30), "Gb/s": 1e9 / 8}
    unit: Literal["GB/s", "TB/s", "GiB/s", "Gb/s"]


@part
class Power(Figure):
    """Watts."""

    scale: ClassVar[dict[str, float]] = {"W": 1.0, "kW": 1e3, "MW": 1e6}
    unit: Literal["W", "kW", "MW"]


@part
class Clock(Figure):
    """A frequency."""

    scale: ClassVar[dict[str, float]] = {"MHz": 1e6, "GHz": 1e9}
    unit: Literal["MHz", "GHz"]


@part
class Chips(Figure):
    """A number of chips."""

    scale: ClassVar[dict[str, float]] = {"chips": 1.0}
    unit: Literal["chips"]


@part
class Factor(Figure):
    """A ratio."""

    scale: ClassVar[dict[str, float]] = {"1": 1.0}
    unit: Literal["1"]
