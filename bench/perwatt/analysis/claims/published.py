"""The second level: what published rows say, which have no match key: the same model, sequence and format by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from perwatt.analysis.claims.claim import Claim, Side
from perwatt.analysis.claims.judging import Span, Word, alike, in_form, judge
from perwatt.analysis.claims.result import Level, joined, unnamed
from perwatt.analysis.columns import POWER_LIMITS
from perwatt.hardware import chips
from perwatt.hardware.sheet import KINDS
from perwatt.results import csvfile
from perwatt.results.published import shipped
from perwatt.results.schema import Row

SYSTEMS = ("node", "cluster")  # placements of rows that are of more than chips by themselves
NO_INTERVAL = "published rows have no intervals: the ends are those of the pairs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """Two published rows of the same task; ``ratio`` is above 1 for the numerator."""

    task: str
    ratio: float
    rows: tuple[Row, Row]
    values: tuple[float, float]

    @property
    def alike(self) -> tuple[bool, bool]:
        """Whether both are from one source, and of as many chips."""
        a, b = self.rows
        return a.source == b.source, a.chips == b.chips


@cache
def rows() -> tuple[Row, ...]:
    """All rows of the shipped CSVs."""
    return tuple(row for name in shipped.names() for row in csvfile.read(Path(shipped.find(name))))


def published(claim: Claim) -> Level:
    """What published rows say of a claim."""
    found = unnamed(claim, joined([_level(condition) for condition in claim.conditions]))
    if claim.not_testable and found.found is None:
        return Level(verdict=Word.NOT_TESTABLE, basis=(claim.not_testable, *found.basis))
    return found


def _level(claim: Claim) -> Level:
    quantity = claim.quantity
    wanted = _wanted(claim)
    if not quantity.published or len(wanted) < 2:
        return Level(verdict=Word.NOT_TESTABLE, basis=(f"no published row is of {quantity.title}",))
    kept = [row for row in rows() if row.workload == quantity.workload and claim.model in (row.case or "")]
    if reason := _unlike(claim):
        return Level(verdict=Word.NOT_DECIDED, basis=(reason,), missing=wanted)
    if claim.scope != "chip":
        kept = [row for row in kept if row.placement in SYSTEMS]
    sides = [[row for row in kept if _is_of(row, side) and _value(row, quantity.published)] for side in claim.sides]
    if not all(sides):
        gone = [side.chip or side.title for side, found in zip(claim.sides, sides, strict=True) if not found]
        lacking = dict.fromkeys(gone)
        return Level(
            verdict=Word.NOT_DECIDED, basis=(f"no published row of {' or '.join(lacking)} has {quantity.published}",),
            missing=wanted,
        )  # fmt: skip
    return _judged(claim, _best(_matches(claim, *sides)), wanted)


def _unlike(claim: Claim) -> str:
    """Why rates of a chip say nothing of the claim, if so."""
    counts = {side.system.chips if side.system else 1 for side in claim.sides}
    if claim.quantity.per_chip or claim.quantity.sheet != "peak" or len(counts) == 1:
        return ""
    return "published rates are of a chip, and the claim is of systems with different numbers of them"


def _judged(claim: Claim, found: Sequence[Match], wanted: tuple[str, ...]) -> Level:
    if not found:
        return Level(
            verdict=Word.NOT_DECIDED, basis=("published rows of the two sides are of different work",), missing=wanted
        )
    figures = [in_form(claim, match.ratio) for match in found]
    mean = in_form(claim, math.exp(sum(math.log(match.ratio) for match in found) / len(found)))
    words = [judge(claim, Span(value=one, lo=one, hi=one), roof=False) for one in figures]
    word = Word.SUPPORTED if claim.quantifier == "up_to" and Word.SUPPORTED in words else alike(words)
    return Level(
        verdict=word, found=Span(value=mean, lo=min(figures), hi=max(figures)),
        basis=(*map(_line, found), NO_INTERVAL), quality=_quality(found),
        missing=wanted if word == Word.NOT_DECIDED else (),
    )  # fmt: skip


def _wanted(claim: Claim) -> tuple[str, ...]:
    """What a source would have to print."""
    named = [" in ".join(filter(None, (side.chip or side.title, side.format))) for side in claim.sides]
    what = f"{claim.model or claim.workload} {claim.quantity.workload}".replace("unspecified ", "")
    return tuple(f"a published {what} row of {one}: {claim.quantity.published}" for one in named)


def _is_of(row: Row, side: Side) -> bool:
    chip = chips.known(row.chip or "")
    if chip is None or chip.name != side.chip:
        return False
    if row.power_limit_w and chip.power and abs(row.power_limit_w / chip.power.base - 1) > POWER_LIMITS - 1:
        return False  # with another power limit it is another chip
    first = (row.precision or "").partition(" ")[0]
    same = first == side.format or first in KINDS.get(side.format, ()) or first.partition("_")[0] == side.format
    return not side.format or same


def _value(row: Row, column: str) -> float | None:
    found = getattr(row, column)
    return float(found) if found else None


def _matches(claim: Claim, a: Iterable[Row], b: Iterable[Row]) -> list[Match]:
    """Every two rows of the same task."""
    found, column = [], claim.quantity.published
    others = list(b)
    for row in a:
        for other in others:
            one, two = _value(row, column), _value(other, column)
            if one and two and row is not other and _task(row) == _task(other):
                found.append(Match(task=_task(row), ratio=one / two, rows=(row, other), values=(one, two)))
    return found


def _task(row: Row) -> str:
    """The case without format and chips: ``llama-3-8b seq 8192``."""
    return (row.case or "").partition(", ")[0].removesuffix(f" {row.precision}")


def _best(found: Sequence[Match]) -> list[Match]:
    """Of each task the pairs that differ least: of one source and as many chips where there are such."""
    most = {task: max(sum(m.alike) for m in found if m.task == task) for task in dict.fromkeys(m.task for m in found)}
    return [match for match in found if sum(match.alike) == most[match.task]]


def _line(match: Match) -> str:
    (a, b), (one, two) = match.rows, match.values
    differs = [what for what, same in zip(("source or release", "chips"), match.alike, strict=True) if not same]
    count = f" ({a.chips:g} and {b.chips:g} chips)" if a.chips and b.chips else ""
    note = f", {' and '.join(differs)} differ" if differs else ""
    formats = a.precision if a.precision == b.precision else f"{a.precision} and {b.precision}"
    return f"{match.task} {formats}{count}: {one:,g} / {two:,g} = {match.ratio:.2f}{note}"


def _quality(found: Sequence[Match]) -> str:
    grade = max(row.grade or "C" for match in found for row in match.rows)
    return f"{grade}, {len(found)} pair{'s' if len(found) > 1 else ''}"
