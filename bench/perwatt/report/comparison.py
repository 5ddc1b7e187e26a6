"""A comparison as tables and lines, for a terminal and for Markdown alike; nothing is computed here but text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perwatt.analysis.result import ColumnFacts, Comparison, LeftOut, Mean, Pair, Refusal
from perwatt.report.format import number, seconds

ALIKE = 1e-9  # relative difference of ratios below which two figures say the same
SHARED = ("track", "on", "impl", "evidence")  # columns that move to the title where all lines agree
DIGITS = 9  # to which means that say the same agree
FEW = 3  # examples named for each reason; --json has all


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


def sheets(found: Comparison) -> list[Sheet]:
    """Pairs of two columns one by one, of more side by side; then the geometric means."""
    made = _pairs(found) if len(found.columns) == 2 else _generations(found)
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


def ratio(one: Pair | Mean) -> str:
    """``1.234 [1.210, 1.259]``; with the symbol of what is not published, without ends where nothing tells."""
    symbol = f" x {one.symbol}" if isinstance(one, Pair) and one.symbol else ""
    upper = "∞" if one.hi is None else _short(one.hi)
    ends = "" if one.lo is None else f" [{_short(one.lo)}, {upper}]"
    return f"{_short(one.ratio)}{ends}{symbol}"


def _base(found: Comparison) -> str:
    return next((_named(column) for column in found.columns if column.label == found.baseline), found.baseline)


def _named(column: ColumnFacts) -> str:
    """A column by its label, and its chip where that does not say it."""
    return column.label if column.chip in column.label else f"{column.label} ({column.chip})"


def _short(value: float) -> str:
    return f"{value:.3f}" if 0.1 <= value < 10 else f"{value:.3g}"


def value(one: float, unit: str) -> str:
    """A figure with its unit, as people read it."""
    return seconds(one) if unit == "s" else f"{number(one)} {unit}".rstrip()


def _pairs(found: Comparison) -> list[Sheet]:
    """One line for each case, track and figure; figures whose ratios are the same share a line."""
    names = tuple(_named(column) for column in found.columns)
    made: dict[str, list[tuple[str, ...]]] = {}
    reasons = _Numbered()
    for group in _together(found.pairs):
        made.setdefault(group[0].workload, []).append(_line(group, reasons))
    head = ("case", "figure", *SHARED, *names, "ratio [95 %]", "verdict", "why")
    tables = [_lean(Sheet(title=workload, head=head, rows=tuple(rows))) for workload, rows in made.items()]
    return [*tables, *reasons.sheet()]


class _Numbered:
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


def _line(group: Sequence[Pair], reasons: _Numbered) -> tuple[str, ...]:
    first = group[0]
    metrics = ", ".join(dict.fromkeys(pair.metric for pair in group))
    tracks = ", ".join(dict.fromkeys(pair.track for pair in group))
    ends = first.baseline, first.candidate
    impls = " / ".join(dict.fromkeys(end.impl for end in ends))
    formats = " / ".join(end.precision for end in ends)
    case = first.case.removeprefix(f"{first.workload} ")
    case = case if ends[0].precision == ends[1].precision else f"{case} ({formats})"
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


def _generations(found: Comparison) -> list[Sheet]:
    """A table for each figure and track: cases by columns, the baseline's own figure marked with a star."""
    made: dict[tuple[str, str], dict[tuple[str, ...], list[Pair]]] = {}
    for pair in found.pairs:
        case = (pair.workload, pair.case, pair.placement, pair.baseline.impl, pair.baseline.precision)
        made.setdefault((pair.metric, pair.track), {}).setdefault(case, []).append(pair)
    labels = [column.label for column in found.columns]
    names = [_named(column) for column in found.columns]
    head = ("case", "on", f"{names[0]} *", *names[1:])
    return [
        Sheet(
            title=f"{metric}, track {track}: ratio to * {labels[0]} [95 %] and verdict",
            head=head,
            rows=tuple(_generation(case, pairs, labels) for case, pairs in cases.items()),
            right=frozenset(range(2, len(head))),
        )
        for (metric, track), cases in made.items()
    ]


def _generation(case: tuple[str, ...], pairs: Sequence[Pair], labels: Sequence[str]) -> tuple[str, ...]:
    """A line of a generation table; formats are named where they differ, evidence where it is not measured."""
    first = pairs[0]
    cells = {label: [_cell(pair) for pair in pairs if pair.candidate.column == label] for label in labels[1:]}
    own = f"{value(first.baseline.value, first.unit)} {first.baseline.impl}{_evidence(first.baseline.evidence)}"
    return (case[1], case[2], own, *("; ".join(cells[label]) for label in labels[1:]))


def _cell(pair: Pair) -> str:
    other = pair.candidate.precision
    named = f" in {other}" if other != pair.baseline.precision else ""
    return f"{ratio(pair)} {pair.verdict}{named}{_evidence(pair.evidence)}"


def _evidence(kind: str) -> str:
    return "" if kind == "measured" else f" ({kind})"


def _means(found: Comparison) -> list[Sheet]:
    if not found.means:
        return []
    grouped: dict[tuple[object, ...], list[Mean]] = {}
    for one in found.means:
        ends = tuple(value and float(f"{value:.{DIGITS}g}") for value in (one.ratio, one.lo, one.hi))
        key = (one.workload, one.placement, one.candidate, one.cases, one.evidence, one.verdict, *ends)
        grouped.setdefault(key, []).append(one)
    head = ("workload", "figure", "track", "on", "candidate", "cases", "ratio [95 %]", "verdict", "evidence")
    rows = tuple(map(_mean, grouped.values()))
    return [Sheet(title="geometric means", head=head, rows=rows, right=frozenset({5, 6}))]


def _mean(group: Sequence[Mean]) -> tuple[str, ...]:
    """Figures whose means are the same share a line."""
    first = group[0]
    metrics = ", ".join(dict.fromkeys(one.metric for one in group))
    tracks = ", ".join(dict.fromkeys(one.track for one in group))
    where = (first.placement, first.candidate, str(first.cases))
    return (first.workload, metrics, tracks, *where, ratio(first), str(first.verdict), first.evidence)


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
