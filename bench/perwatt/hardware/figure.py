"""A figure from the literature: a number that is never without unit, source, date and grade.

Sheets of chips, systems and prices are made of figures. Where sources disagree, the figure keeps every value it met and
says how the disagreement was handled.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

Grade = Literal["A", "B", "C"]
GRADES = {
    "A": "published by the vendor: data sheet, documentation, price list",
    "B": "reputable third party, peer-reviewed measurement, or dated capture of a vendor's page",
    "C": "estimate, back-calculation, hearsay, or arithmetic on other figures",
}
DATE = r"^\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?$"


def _number(value: Any) -> Any:
    """Pydantic would take text and truth values for numbers."""
    if isinstance(value, (bool, str)):
        raise ValueError(f"found {value!r}, expected a number")
    return value


Number = Annotated[float, BeforeValidator(_number), Field(ge=0)]
Date = Annotated[str, Field(pattern=DATE, description="YYYY-MM or YYYY-MM-DD")]


class Part(BaseModel):
    """What every part of a sheet has in common: no unknown fields, no change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(Part):
    """One entry of the bibliography."""

    title: str = Field(min_length=1)
    location: str = Field(min_length=1, description="address, repository and path, or where else to find it")
    date: Date


class Other(Part):
    """Another value that was met for the same thing, in the same unit."""

    value: Number
    source: str
    grade: Grade
    note: str = ""


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
    """

    scale: ClassVar[dict[str, float]] = {}  # units and what one of them is in the base unit

    value: Number
    unit: str
    source: str
    grade: Grade
    date: Date | None = None
    low: Number | None = None
    high: Number | None = None
    others: tuple[Other, ...] = ()
    handling: str = ""
    note: str = ""
    _place: tuple[str, int] = PrivateAttr(default=("", 0))
    _date: str = PrivateAttr(default="")

    @property
    def base(self) -> float:
        """The value in the base unit: FLOP/s, bytes, bytes/s, watts, USD."""
        return self.value * self.scale[self.unit]

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
        return self.date or self._date

    @property
    def file(self) -> str:
        """File it was read from; empty for one that was worked out."""
        return self._place[0]

    @property
    def line(self) -> int:
        """Line of that file; 0 for one that was worked out."""
        return self._place[1]

    def put(self, file: str, line: int, date: str) -> None:
        """Remember where it was read and the date of its source."""
        self._place, self._date = (file, line), date

    def derived(self, factor: float, note: str, **changes: Any) -> Figure:
        """This figure times a factor: arithmetic, so of grade C, with the place it was worked out from."""
        made = self.model_copy(update={
            "value": self.value * factor, "grade": "C", "note": note, "others": tuple(
                other.model_copy(update={"value": other.value * factor}) for other in self.others),
            "low": self.low and self.low * factor, "high": self.high and self.high * factor, **changes,
        })  # fmt: skip
        made.put(self.file, self.line, self._date)
        return made


def _given(value: float | None) -> list[float]:
    return [] if value is None else [value]


class Compute(Figure):
    """A rate of operations; a multiply-add is two."""

    scale = {"TFLOP/s": 1e12, "PFLOP/s": 1e15, "TOP/s": 1e12}
    unit: Literal["TFLOP/s", "PFLOP/s", "TOP/s"]

    @property
    def tflops(self) -> float:
        """In 1e12 operations a second."""
        return self.base / 1e12


class Memory(Figure):
    """A capacity."""

    scale = {"GB": 1e9, "GiB": float(2**30), "TB": 1e12, "TiB": float(2**40)}
    unit: Literal["GB", "GiB", "TB", "TiB"]


class Rate(Figure):
    """Bytes or bits moved in a second."""

    scale = {"GB/s": 1e9, "TB/s": 1e12, "GiB/s": float(2**30), "Gb/s": 1e9 / 8}
    unit: Literal["GB/s", "TB/s", "GiB/s", "Gb/s"]


class Power(Figure):
    """Watts."""

    scale = {"W": 1.0, "kW": 1e3, "MW": 1e6}
    unit: Literal["W", "kW", "MW"]


class Clock(Figure):
    """A frequency."""

    scale = {"MHz": 1e6, "GHz": 1e9}
    unit: Literal["MHz", "GHz"]


class Factor(Figure):
    """A ratio."""

    scale = {"1": 1.0}
    unit: Literal["1"]
