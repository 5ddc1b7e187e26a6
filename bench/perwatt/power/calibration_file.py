"""The file of a calibration: YAML with its points, so that anybody can fit it again. Its id shows a change by hand."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from perwatt.errors import InputError
from perwatt.hardware.figure import DATED
from perwatt.hardware.reader import Part, build, part, plain, rule
from perwatt.results.schema import POWER_SCOPES
from perwatt.runner.folder import replace as write_whole
from perwatt.spec import yamlfile

SCHEMA: Final = "calibration-1"
DIGITS = 10  # that numbers are kept with
SHORT = 12  # letters of an id
ANY = -math.inf


@part
class Point(Part):
    """One window of load: the percentage and the watts over the same time, with their 95 % intervals."""

    case: str
    impl: str
    pct: float
    pct_lo: float = rule(least=ANY)
    pct_hi: float
    watts: float = rule(above=0)
    watts_lo: float = rule(least=ANY)
    watts_hi: float

    def check(self) -> None:
        """Intervals hold their value, and one of them says something of how uncertain it is."""
        for name in ("pct", "watts"):
            _ordered(getattr(self, f"{name}_lo"), getattr(self, name), getattr(self, f"{name}_hi"), name)
        if self.pct > 100:
            raise InputError(f"found {self.pct:g}, expected at most 100", field="pct")
        if self.pct_lo == self.pct_hi and self.watts_lo == self.watts_hi:
            raise InputError("found no uncertainty at all, expected an interval", field="watts_hi")


@part
class Bounded(Part):
    """Watts with their 95 % interval."""

    value: float = rule(least=ANY)
    lo: float = rule(least=ANY)
    hi: float = rule(least=ANY)

    def check(self) -> None:
        """The interval holds the value."""
        _ordered(self.lo, self.value, self.hi, "value")


@part
class Covariance(Part):
    """Of background and maximum, in W squared; ``both`` is that of the two."""

    background: float
    maximum: float
    both: float = rule(least=ANY)

    def check(self) -> None:
        """It is one of two numbers."""
        if self.both**2 > self.background * self.maximum * (1 + 1e-6):
            raise InputError(f"found {self.both:g}, expected a covariance within the variances", field="both")


@part
class Calibration(Part):
    """A calibration.

    Attributes:
        id: short hash of all that follows.
        chips: that worked together: percentages are their mean, watts are of all of them.
        background_w: at 0 %, with whatever else the meter sees.
        maximum_w: at 100 %.
        reduced_chi2: squared residuals in units of their uncertainty, over the degrees of freedom.
        misfit: whether residuals are far beyond the stated uncertainties: the line is not all of the truth.
        scatter_w: standard deviation about the line that is added for it.
    """

    schema: Literal["calibration-1"]
    id: str = rule(pattern=f"[0-9a-f]{{{SHORT}}}", doc=f"{SHORT} hexadecimal digits")
    date: str = rule(**DATED)
    chip: str = rule(some=True)
    chips: int
    die_rule: str = rule(some=True)
    scope: str
    instance_type: str
    driver: str
    meter_class_pct: float = rule(above=0)
    background_w: Bounded
    maximum_w: Bounded
    covariance: Covariance
    reduced_chi2: float
    misfit: bool
    scatter_w: float
    points: tuple[Point, ...]

    @classmethod
    def made(cls, **fields: Any) -> Calibration:
        """A new one, with its id; numbers are rounded as the file keeps them."""
        draft = cls(schema=SCHEMA, id="0" * SHORT, **fields)
        rounded = build(cls, _rounded(plain(draft)))
        return replace(rounded, id=_hash(rounded))

    def check(self) -> None:
        """Fields that fit each other."""
        if self.scope not in POWER_SCOPES:
            raise InputError(f"found {self.scope!r}, expected one of {', '.join(POWER_SCOPES)}", field="scope")
        if self.maximum_w.value <= self.background_w.value:
            raise InputError("found no more than the background, expected more", field="maximum_w.value")
        if len(self.points) < 3:
            raise InputError(f"found {len(self.points)} points, expected at least 3", field="points")


def read(path: str | Path) -> Calibration:
    """A calibration that nobody changed by hand.

    Raises:
        InputError: with file, line and field.
    """
    document = yamlfile.load(path)
    with document.placed():
        found = build(Calibration, document.value)
        if found.id != (own := _hash(found)):
            raise InputError(f"found {found.id}, expected {own}: the file was changed after it was made", field="id")
    return found


def write(calibration: Calibration, path: Path) -> None:
    """Write the file, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    write_whole(path, [yaml.safe_dump(plain(calibration), sort_keys=False, allow_unicode=True, width=120)])


def _hash(calibration: Calibration) -> str:
    import rfc8785

    content = {name: value for name, value in plain(calibration).items() if name != "id"}
    return hashlib.sha256(rfc8785.dumps(content)).hexdigest()[:SHORT]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _ordered(lo: float, value: float, hi: float, field: str) -> None:
    if not lo <= value <= hi:
        raise InputError(f"found {value:g}, expected it within {lo:g} and {hi:g}", field=field)
