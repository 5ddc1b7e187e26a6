"""A comparison as tables and lines, for a terminal and for Markdown alike; nothing is computed here but text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from perwatt.analysis.result import Comparison, LeftOut, Mean, Pair, Refusal
from perwatt.report import generations
from perwatt.report.sheet import Numbered, Sheet, named, ratio, value

ALIKE = 1e-9  # relative difference of ratios below which two figures say the same
SHARED = ("track", "on", "impl", "evidence")  # columns that move to the title where all lines agree
DIGITS = 9  # to which means that say the same agree
FEW = 3  # examples named for each reason; --json has all


def sheets(found: Comparison) -> list[Sheet]:
    """Pairs of two columns one by one, of more side by side; then the geometric means."""
    made = _pairs(found) if len(found.columns) == 2 else generations.sheets(found)
    return [*made, *_means(found)]


def lines(found: Comparison) -> list[str]:
    """All that is in no table, by reason, with the first few places."""
    region = f"1 ± {100 * found.options.region:g} %"
    made = [f"Above 1 is better for the candidate; within {region} is the same. The baseline is {_base(found)}."]
    made += [f"note: {note}" for note in found.notes]
    made += [f"left out, cannot be read: {line}" for line in found.skipped]
    made += _by_reason("not compared", [(_figure(one), one.reason) for one in found.refused])
    made += _by_reason("unmatched", [(_row(one), one.reason) for one in found.unmatched])
    made += _by_reason("excluded", [(_row(one), one.reason) for one in found.excluded])
    return made


def _base(found: Comparison) -> str:
    return next((named(column) for column in found.columns if column.label == found.baseline), found.baseline)


def _pairs(found: Comparison) -> list[Sheet]:
    """One line for each case, track and figure; figures whose ratios are the same share a line."""
    names = tuple(named(column) for column in found.columns)
    made: dict[str, list[tuple[str, ...]]] = {}
    reasons = Numbered()
    for group in _together(found.pairs):
        made.setdefault(group[0].workload, []).append(_line(group, reasons, found.options.across_formats))
    head = ("case", "figure", *SHARED, *names, "ratio [95 %]", "verdict", "why")
    tables = [_lean(Sheet(title=workload, head=head, rows=tuple(rows))) for workload, rows in made.items()]
    return [*tables, *reasons.sheet()]


def _lean(sheet: Sheet) -> Sheet:
    """The table with what all lines share in its title instead of in columns."""
    at = [sheet.head.index(name) for name in SHARED]
    moved = [number for number in at if len({row[number] for row in sheet.rows}) == 1]
    kept = [number for number in range(len(sheet.head)) if number not in moved]
    shared = [f"{sheet.head[number]} {sheet.rows[0][number]}" for number in moved]
    return Sheet(
        title="; ".join([sheet.title, *shared]),
        head=tuple(sheet.head[number] for number in kept),
        rows=tuple(tuple(row[number] for number in kept) for row in sheet.rows),
        right=frozenset(range(len(kept) - 5, len(kept) - 2)),
    )


def _line(group: Sequence[Pair], reasons: Numbered, across_formats: bool) -> tuple[str, ...]:
    first = group[0]
    metrics = ", ".join(dict.fromkeys(pair.metric for pair in group))
    tracks = ", ".join(dict.fromkeys(pair.track for pair in group))
    ends = first.baseline, first.candidate
    impls = " / ".join(dict.fromkeys(end.impl for end in ends))
    formats = " / ".join(end.precision for end in ends)
    case = first.case.removeprefix(f"{first.workload} ")
    if across_formats:
        case = f"{case} ({formats})"
    shared = (tracks, first.placement, impls, first.evidence)
    figures = [value(end.value, first.unit) for end in ends]
    return (case, metrics, *shared, *figures, ratio(first), str(first.verdict), reasons.of(first.reason))


def _together(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """Pairs of a case whose ratio, interval and verdict are the same, in order."""
    groups: dict[tuple[object, ...], list[list[Pair]]] = {}
    order: list[list[Pair]] = []
    for pair in pairs:
        ends = [(end.column, end.impl, end.precision, end.placement) for end in (pair.baseline, pair.candidate)]
        key = (pair.match_key, pair.protocol_key, pair.placement, *ends, pair.evidence, pair.reason, pair.symbol)
        alike = next((group for group in groups.get(key, []) if _same(group[0], pair)), None)
        if alike is None:
            alike = []
            groups.setdefault(key, []).append(alike)
            order.append(alike)
        alike.append(pair)
    return order


def _same(a: Pair, b: Pair) -> bool:
    ends = ((a.ratio, b.ratio), (a.lo, b.lo), (a.hi, b.hi))
    return all(x == y or (x and y and math.isclose(x, y, rel_tol=ALIKE)) for x, y in ends)


def _means(found: Comparison) -> list[Sheet]:
    if not found.means:
        return []
    grouped: dict[tuple[object, ...], list[Mean]] = {}
    for one in found.means:
        ends = tuple(value and float(f"{value:.{DIGITS}g}") for value in (one.ratio, one.lo, one.hi))
        key = (one.workload, one.placement, one.candidate, one.cases, one.evidence, one.verdict, *ends)
        key += one.formats, one.reason
        grouped.setdefault(key, []).append(one)
    head = ("workload", "figure", "track", "on", "candidate", "cases", "ratio [95 %]", "verdict", "evidence", "marked")
    rows = tuple(map(_mean, grouped.values()))
    return [Sheet(title="geometric means", head=head, rows=rows, right=frozenset({5, 6}))]


def _mean(group: Sequence[Mean]) -> tuple[str, ...]:
    """Figures whose means are the same share a line."""
    first = group[0]
    metrics = ", ".join(dict.fromkeys(one.metric for one in group))
    tracks = ", ".join(dict.fromkeys(one.track for one in group))
    where = (first.placement, first.candidate, str(first.cases))
    workload = f"{first.workload} ({first.formats})" if first.formats else first.workload
    return (workload, metrics, tracks, *where, ratio(first), str(first.verdict), first.evidence, first.reason)


def _by_reason(what: str, items: Sequence[tuple[str, str]]) -> list[str]:
    grouped: dict[str, list[str]] = {}
    for name, reason in items:
        grouped.setdefault(reason, []).append(name)
    made = []
    for reason, names in grouped.items():
        more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
        made.append(f"{what} ({len(names)}): {reason}: {'; '.join(names[:FEW])}{more}")
    return made


def _figure(one: Refusal) -> str:
    return f"{one.metric} of {one.case} on {one.candidate}"


def _row(one: LeftOut) -> str:
    return f"{one.case} {one.impl} ({one.column}, {one.file}:{one.line})"
