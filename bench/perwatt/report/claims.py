"""Judged claims as people read them: all in a table, or one in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from perwatt.analysis.claims.claim import Claim, a_scope
from perwatt.analysis.claims.judging import Span, Word
from perwatt.analysis.claims.result import LEVELS, Judgement, Level
from perwatt.analysis.sides import Side

TITLES = {"datasheet": "data sheet", "published": "published rows", "measured": "measured rows"}
ASSUMED = "~ watts that are an assumption, since the vendor publishes none"
HEAD = ("claim", "row", "says", "of", *TITLES.values())
NO_ROWS = "no measured rows: give results, or keep them in results/measured; perwatt claims NAME says which would tell"


def rows(found: Sequence[Judgement]) -> Iterator[list[str]]:
    """Cells of the table of all claims, as many as :data:`HEAD` has."""
    for one in found:
        scope = a_scope(one.claim.scope).partition(" ")[2]
        yield [one.claim.claim, one.claim.row, one.claim.said, scope, *map(cell, one.levels.values())]


def notes(found: Sequence[Judgement], measured: Side | None) -> Iterator[str]:
    """What stands below that table: how many there are of each verdict, and what the marks mean."""
    for name in LEVELS:
        counts = Counter(one.levels[name].verdict for one in found)
        told = ", ".join(f"{counts[word]} {_word(word)}" for word in Word if counts[word])
        yield f"{TITLES[name]}: {told or 'nothing'}"
    yield ASSUMED
    yield NO_ROWS if measured is None else f"{len(measured.rows)} measured rows of {len(measured.rows.files)} files"


def cell(level: Level) -> str:
    """``~supported 1.38 (0.97 to 1.61)``."""
    mark = "~" if "assumed" in level.quality else ""
    return f"{mark}{_word(level.verdict)}" + (f" {span(level.found)}" if level.found else "")


def span(found: Span) -> str:
    """The figure with its ends, where they differ from it."""
    if found.lo is None or found.hi is None:
        return f"{_short(found.value)} (no interval)"
    return _short(found.value) + (f" ({_short(found.lo)} to {_short(found.hi)})" if found.lo < found.hi else "")


def lines(one: Judgement) -> Iterator[str]:
    """Everything that is known of one claim, line by line, indented by what belongs to what."""
    claim = one.claim
    yield f"{claim.claim}{f' ({claim.row})' if claim.row else ''}"
    yield f"  {claim.statement}"
    yield f"  {claim.who}, {claim.when}; source {claim.source}, grade {claim.grade}"
    yield f"  judged: {claim.quantity.title}, {_sides(claim)}, {claim.said}"
    yield f"  of {a_scope(claim.scope)}; workload {claim.workload}; format {claim.format}; held equal: {claim.iso}"
    for bar in claim.besides:
        yield f"  and: {bar.quantity.title}, {bar.said}"
    for name, level in one.levels.items():
        yield f"  {TITLES[name]}: {_word(level.verdict)}{f', {span(level.found)}' if level.found else ''}"
        for line in level.basis:
            yield f"    {line}"
        if level.quality:
            yield f"    evidence: {level.quality}"
        for line in level.missing:
            yield f"    missing: {line}"
        for line in (level.command or "").splitlines():
            yield f"    $ {line}"
    yield ""


def _sides(claim: Claim) -> str:
    named = [" in ".join(filter(None, (side.title, side.format))) for side in claim.sides]
    return " against ".join(named)


def _word(word: Word) -> str:
    return word.value.replace("_", " ")


def _short(value: float) -> str:
    return f"{value:,.4g}" if value < 10_000 else f"{value:,.0f}"
