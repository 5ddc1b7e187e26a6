"""The file of an outside meter: a CSV with times and watts, read strictly, because nobody else looks at it.

Columns are one of time, ``time`` (ISO 8601 with its zone) or ``unix_s`` (seconds since 1970), and ``watts``, or several
``watts_NAME`` that are summed. Lines that begin with ``#`` are comments. Other columns are refused: of volts and
amperes nobody could say whether they were meant.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perwatt import textfile
from perwatt.errors import InputError, expected, shorten
from perwatt.power.base import CHIP_LIKE, IMPLAUSIBLE_W

Floats = NDArray[np.float64]

FEWEST = 10  # lines, below which a file is no trace
EARLIEST, LATEST = 1e9, 1e11  # seconds since 1970: 2001, and what would be milliseconds
NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
CHANNEL = re.compile(r"watts_[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class MeterFile:
    """What a meter wrote, on its own clock.

    Attributes:
        file: path.
        scope: what the meter sees, value of ``power_scope``.
        accuracy: of a reading, relative: its class in percent over 100.
        times: seconds since 1970 by the meter's clock, growing.
        watts: one row for each time, one column for each channel.
        channels: names of the columns, without ``watts_``.
        chips: that it sees, where it sees nothing but chips; else 1.
        note: what was left out; empty where nothing was.
    """

    file: str
    scope: str
    accuracy: float
    times: Floats
    watts: Floats
    channels: tuple[str, ...]
    chips: int = 1
    note: str = ""

    @property
    def step_s(self) -> float:
        """Median time between two lines, seconds."""
        return float(np.median(np.diff(self.times)))

    @property
    def total(self) -> Floats:
        """Watts of all channels together."""
        return np.asarray(self.watts.sum(axis=1), dtype=np.float64)

    @property
    def resolution(self) -> float:
        """Smallest step between two values of a channel, W; 0 where no value ever changes."""
        steps = [np.diff(np.unique(column)) for column in self.watts.T]
        return min((float(step.min()) for step in steps if step.size), default=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    number: int
    cells: list[str]


def read(path: str | Path, *, accuracy_pct: float, scope: str, chips: int = 1) -> MeterFile:
    """Read and check a trace.

    Args:
        path: the file.
        accuracy_pct: accuracy class of the meter, percent of the reading.
        scope: what it sees.
        chips: that it sees, where it sees nothing but chips.

    Raises:
        InputError: the file or the class is no good; with line, column, what was found and what was expected.
    """
    if not 0 < accuracy_pct <= 100:
        raise InputError(f"found {accuracy_pct:g}, expected percent of the reading, such as 0.5", field="meter class")
    file = str(path)
    text, note = _text(file)
    lines = _lines(file, text)
    first = next(lines, None)
    if first is None:
        raise InputError("empty file, expected a header with time or unix_s, and watts", file=file, line=1)
    clock, channels = _header(file, first)
    most = IMPLAUSIBLE_W * chips if scope in CHIP_LIKE else math.inf
    times: list[float] = []
    watts: list[list[float]] = []
    for line in lines:
        values = _values(file, first.cells, line)
        times.append(_time(file, line.number, clock, values[clock], times))
        watts.append([_watts(file, line.number, name, values[name]) for name in channels])
        if sum(watts[-1]) > most:
            wanted = f"at most {most:g} W of {chips} chip{'s' * (chips > 1)} by themselves (scope {scope})"
            message = f"found {sum(watts[-1]):g} W, expected {wanted}"
            raise InputError(message, file=file, line=line.number, field="watts")
    if len(times) < FEWEST:
        raise InputError(f"found {len(times)} lines of values, expected at least {FEWEST}", file=file)
    return MeterFile(
        file=file, scope=scope, accuracy=accuracy_pct / 100, times=np.array(times), watts=np.array(watts),
        channels=tuple(name.removeprefix("watts_") for name in channels), note=note,
        chips=chips if scope in CHIP_LIKE else 1,
    )  # fmt: skip


def _text(file: str) -> tuple[str, str]:
    """The text up to its last line end, and what was left out behind it: a meter that is stopped cuts numbers short."""
    text = textfile.read(file)
    whole, _, rest = text.rpartition("\n")
    return whole, "the last line has no line end and was left out" if rest.strip() else ""


def _lines(file: str, text: str) -> Iterator[_Line]:
    for number, line in enumerate(text.split("\n"), 1):
        if not (bare := line.strip()) or bare.startswith("#"):
            continue
        try:
            (cells,) = csv.reader([bare], strict=True)
        except (csv.Error, ValueError) as error:
            raise InputError(f"not a line of a CSV: {error}", file=file, line=number) from None
        yield _Line(number=number, cells=[cell.strip() for cell in cells])


def _header(file: str, line: _Line) -> tuple[str, list[str]]:
    """Column of time, and columns of watts."""
    names = line.cells
    for name in names:
        if names.count(name) > 1:
            raise InputError("column is there twice", file=file, line=line.number, field=name)
        if name not in ("time", "unix_s", "watts") and not CHANNEL.fullmatch(name):
            wanted = expected(name, ("time", "unix_s", "watts", "watts_NAME"))
            raise InputError(wanted, file=file, line=line.number, field="header")
    clocks = [name for name in ("time", "unix_s") if name in names]
    watts = [name for name in names if name.startswith("watts")]
    if len(clocks) != 1:
        found = " and ".join(clocks) or "no column of time"
        raise InputError(f"found {found}, expected one of time, unix_s", file=file, line=line.number, field="header")
    if not watts or ("watts" in watts and len(watts) > 1):
        found = "watts beside watts_NAME" if watts else "no column of watts"
        wanted = "expected watts, or watts_NAME for each channel"
        raise InputError(f"found {found}, {wanted}", file=file, line=line.number, field="header")
    return clocks[0], watts


def _values(file: str, names: Sequence[str], line: _Line) -> dict[str, str]:
    if len(line.cells) != len(names):
        message = f"found {len(line.cells)} cells, expected {len(names)} ({', '.join(names)})"
        raise InputError(message, file=file, line=line.number)
    return dict(zip(names, line.cells, strict=True))


def _time(file: str, line: int, name: str, text: str, before: Sequence[float]) -> float:
    """Seconds since 1970, later than the line before."""
    value = _iso(file, line, text) if name == "time" else _number(file, line, name, text, "seconds since 1970")
    if not EARLIEST <= value < LATEST:
        hint = " (milliseconds?)" if EARLIEST <= value / 1e3 < LATEST else ""
        raise InputError(f"found {text}{hint}, expected seconds since 1970", file=file, line=line, field=name)
    if before and value <= before[-1]:
        late = f"{before[-1] - value:g} s before the line above" if value < before[-1] else "the time of the line above"
        raise InputError(f"found {shorten(text)}, {late}; expected times that grow", file=file, line=line, field=name)
    return value


def _iso(file: str, line: int, text: str) -> float:
    wanted = "expected ISO 8601 with its zone, such as 2026-03-01T12:00:00.250Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"found {shorten(text)}, {wanted}", file=file, line=line, field="time") from None
    if moment.tzinfo is None:
        raise InputError(f"found {shorten(text)} without a zone, {wanted}", file=file, line=line, field="time")
    return moment.timestamp()


def _watts(file: str, line: int, name: str, text: str) -> float:
    value = _number(file, line, name, text, "watts")
    if value < 0:
        raise InputError(f"found {text}, expected watts of at least 0", file=file, line=line, field=name)
    return value


def _number(file: str, line: int, name: str, text: str, what: str) -> float:
    value = float(text) if NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        found = shorten(text) if text else "nothing"
        raise InputError(f"found {found}, expected {what}, a finite number", file=file, line=line, field=name)
    return value
