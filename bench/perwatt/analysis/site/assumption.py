"""Figures that a plan rests on: each with its band, where it is from, and what would settle it.

Every quantity of a plan is a product of such figures. One that two chips share, as the site's PUE, has one name and is
drawn once for both, so that it does not blur their difference.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from perwatt.analysis.table import Floats
from perwatt.errors import InputError, shorten
from perwatt.hardware.figure import Figure

Value: TypeAlias = float | Floats
Values: TypeAlias = Mapping[str, Value]
Shape = Literal["triangular", "uniform", "normal"]
Evidence = Literal["measured", "published", "data sheet", "declared", "borrowed"]
NORMAL_95 = 1.959964  # standard deviations from the middle of a normal distribution to the end of its 95 % interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Assumption:
    """One figure of a plan.

    Attributes:
        name: by which it is shared and drawn.
        value: nominal, in ``unit``.
        lo: lower end of its band; ``value`` where it is taken for exact.
        hi: upper end.
        shape: over the band: ``triangular`` with its top at the value; ``uniform``; ``normal`` in the logarithm, where
            the band is a 95 % interval.
        evidence: ``measured``; ``published``; ``data sheet``; ``declared`` by the user; ``borrowed`` from other chips.
        source: in a few words.
        settle: the measurement that would take its place.
    """

    name: str
    value: float
    lo: float
    hi: float
    unit: str
    shape: Shape = "triangular"
    evidence: Evidence
    source: str
    settle: str = ""

    @property
    def open(self) -> bool:
        """Whether it has a band."""
        return self.lo < self.hi

    def draws(self, count: int, seed: int) -> Floats:
        """So many values; the same for the same name and seed, whatever else is drawn."""
        random = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        if not self.open:
            return np.full(count, self.value)
        if self.shape == "uniform":
            return random.uniform(self.lo, self.hi, count)
        if self.shape == "triangular":
            return random.triangular(self.lo, self.value, self.hi, count)
        score = random.standard_normal(count) / NORMAL_95
        return np.asarray(self.value * np.where(score < 0, self.value / self.lo, self.hi / self.value) ** score)


@dataclass(frozen=True, slots=True)
class Product:
    """A constant times some figures."""

    scale: float = 1.0
    of: tuple[Assumption, ...] = ()

    def at(self, values: Values) -> Any:
        """The product with these values of its figures."""
        return math.prod((values[one.name] for one in self.of), start=self.scale)

    def times(self, *more: Assumption | None, scale: float = 1.0) -> Product:
        """With further figures; those that are None are left out."""
        return Product(self.scale * scale, (*self.of, *(one for one in more if one is not None)))


def nominal(assumptions: Iterable[Assumption]) -> dict[str, Value]:
    """The value of each by name."""
    return {one.name: one.value for one in assumptions}


def of_figure(name: str, figure: Figure, unit: str, settle: str = "", evidence: Evidence = "data sheet") -> Assumption:
    """A figure of a sheet with the band that its sources span; ``unit`` is the base unit of its kind."""
    return Assumption(
        name=name, value=figure.base, lo=figure.lo * figure.one, hi=figure.hi * figure.one, unit=unit,
        evidence=evidence, source=f"{figure.source}, grade {figure.grade}", settle=settle,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """What a user declares: a value, or an interval with its middle for the value."""

    lo: float
    hi: float

    @classmethod
    def parse(cls, text: str, field: str, *, least: float = 0.0, most: float = math.inf) -> Span:
        """``0.9`` or ``0.85-0.95``.

        Raises:
            InputError: it is neither, or not within ``least`` and ``most``, or 0.
        """
        try:
            ends = [float(part) for part in text.split("-")] if text[:1] != "-" else [float(text)]
        except ValueError:
            ends = []
        if len(ends) not in (1, 2):
            raise InputError(f"found {shorten(text)}, expected a number, or two as LO-HI", field=field)
        for end in ends:
            if not (least <= end <= most and 0 < end < math.inf):
                limits = f"{least:g} to {most:g}" if most < math.inf else f"{least:g} or more" if least else "above 0"
                raise InputError(f"found {end:g}, expected {limits}", field=field)
        if ends[0] > ends[-1]:
            raise InputError(f"found {shorten(text)}, expected the smaller end first", field=field)
        return cls(ends[0], ends[-1])

    def assumption(self, name: str, unit: str, settle: str = "") -> Assumption:
        """The declared figure; every value of an interval is as likely."""
        return Assumption(
            name=name, value=(self.lo + self.hi) / 2, lo=self.lo, hi=self.hi, unit=unit, shape="uniform",
            evidence="declared", source="as declared", settle=settle,
        )  # fmt: skip
