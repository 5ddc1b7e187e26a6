"""The second level: what published rows say, which have no match key: the same model, sequence and format by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from perwatt.analysis.claims.claim import Claim, Side, a_scope
from perwatt.analysis.claims.judging import Span, Word, alike, falls_short, in_form, judge
from perwatt.analysis.claims.result import Level, joined, unnamed
from perwatt.analysis.claims.sieves import LARGE, PLACEMENTS
from perwatt.analysis.claims.wanted import better_case
from perwatt.analysis.columns import POWER_LIMITS
from perwatt.hardware import chips
from perwatt.hardware.sheet import KINDS
from perwatt.hardware.systems import System
from perwatt.results import csvfile
from perwatt.results.published import shipped
from perwatt.results.schema import Row

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
        return a.source == b.source, a.chips is not None and a.chips == b.chips


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
    apart = [_apart(claim, match) for match in found]
    lines = [
        _line(match) + (f"; it does not judge, as {reason}" if reason else "")
        for match, reason in zip(found, apart, strict=True)
    ]
    judges = [match for match, reason in zip(found, apart, strict=True) if not reason]
    whole = _whole(claim, judges or found)
    words = [judge(claim, _whole(claim, [match]), roof=False) for match in judges] or [Word.NOT_DECIDED]
    word = Word.SUPPORTED if claim.quantifier == "up_to" and Word.SUPPORTED in words else alike(words)
    settles = better_case(claim) if falls_short(claim, whole) else ()
    return Level(
        verdict=word, found=whole, basis=(*lines, NO_INTERVAL), quality=_quality(judges or found),
        missing=() if word != Word.NOT_DECIDED else settles if judges else wanted,
    )  # fmt: skip


def _whole(claim: Claim, found: Sequence[Match]) -> Span:
    """The geometric mean of pairs, with the lowest and the highest of them."""
    figures = [in_form(claim, match.ratio) for match in found]
    mean = math.exp(sum(math.log(match.ratio) for match in found) / len(found))
    return Span(value=in_form(claim, mean), lo=min(figures), hi=max(figures))


def _apart(claim: Claim, match: Match) -> str:
    """Why a pair is not of what the claim is of: other systems, or not as many chips; empty where it is."""
    for side, row in zip(claim.sides, match.rows, strict=True):
        if (system := _system(claim, side)) and row.chips != system.chips:
            return f"{system.name} has {system.chips} chips"
        if claim.scope != "chip" and row.placement not in PLACEMENTS.get(claim.scope, LARGE):
            return f"the claim is of {a_scope(claim.scope)}"
    return "the claim is of as many chips on both sides" if claim.iso == "chips" and not match.alike[1] else ""


def _system(claim: Claim, side: Side) -> System | None:
    """The system that the claim is of on that side; None where it is of no number of chips."""
    return None if claim.scope == "chip" else side.system


def _wanted(claim: Claim) -> tuple[str, ...]:
    """What a source would have to print."""
    named = [" in ".join(filter(None, (side.chip or side.title, side.format))) for side in claim.sides]
    sizes = [f" on {one.chips} chips" if (one := _system(claim, side)) else "" for side in claim.sides]
    if claim.iso == "chips" and claim.scope != "chip":
        sizes = [size or next(filter(None, sizes), " on as many chips as the other side") for size in sizes]
    what = f"{claim.model or claim.workload} {claim.quantity.workload}".replace("unspecified ", "")
    rows = zip(named, sizes, strict=True)
    return tuple(f"a published {what} row of {one}{size}: {claim.quantity.published}" for one, size in rows)


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
    """Of each task the pairs that differ least: of one release, then of as many chips, where there are such."""
    most = {task: max(m.alike for m in found if m.task == task) for task in dict.fromkeys(m.task for m in found)}
    return [match for match in found if match.alike == most[match.task]]


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
