"""What tables of a comparison are made of: sheets, ratios and figures as text, reasons by number."""

from __future__ import annotations

from dataclasses import dataclass

from perwatt.analysis.result import ColumnFacts, Mean, Pair
from perwatt.report.format import number, seconds, volume


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A table.

    Attributes:
        title: above it.
        head: names of the columns.
        rows: cells, as many as the head has.
        right: numbers of the columns that are set right.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int] = frozenset()


def ratio(one: Pair | Mean) -> str:
    """``1.234 [1.210, 1.259]``; with the symbol of what is not published, without ends where nothing tells."""
    symbol = f" x {one.symbol}" if isinstance(one, Pair) and one.symbol else ""
    upper = "∞" if one.hi is None else _short(one.hi)
    ends = "" if one.lo is None else f" [{_short(one.lo)}, {upper}]"
    return f"{_short(one.ratio)}{ends}{symbol}"


def named(column: ColumnFacts) -> str:
    """A column by its label, and its chip where that does not say it."""
    return column.label if column.chip in column.label else f"{column.label} ({column.chip})"


def _short(value: float) -> str:
    return f"{value:.3f}" if 0.1 <= value < 10 else f"{value:.3g}"


def value(one: float, unit: str) -> str:
    """A figure with its unit, as people read it."""
    if unit == "s":
        return seconds(one)
    return volume(one) if unit == "B" else f"{number(one)} {unit}".rstrip()


class Numbered:
    """Reasons, each with a number that stands for it."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, reason: str) -> str:
        """The numbers of the parts of a reason."""
        parts = filter(None, reason.split("; "))
        return " ".join(self._known.setdefault(part, str(len(self._known) + 1)) for part in parts)

    def sheet(self) -> list[Sheet]:
        """What the numbers stand for."""
        rows = tuple((number, reason) for reason, number in self._known.items())
        return [Sheet(title="why", head=("no.", "reason"), rows=rows)] if rows else []
