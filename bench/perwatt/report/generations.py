"""A comparison of more than two columns: a line for each case, a column for each kind of chip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perwatt.analysis.metrics import METRICS
from perwatt.analysis.result import Comparison, Pair
from perwatt.report.sheet import Numbered, Sheet, named, ratio, value

TRACKS = ("best", "like")  # the headline first
Case = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """A case: what the baseline has, and a cell for each other column."""

    label: str
    placement: str
    figure: str
    how: str
    cells: tuple[str, ...]

    @property
    def said(self) -> tuple[object, ...]:
        """What lines of figures that follow from each other have in common: all but the baseline's own figure."""
        return self.label, self.placement, self.how, self.cells


def sheets(found: Comparison) -> list[Sheet]:
    """A table for each figure and track, those whose ratios are the same together; the baseline has a star."""
    labels, reasons = [column.label for column in found.columns], Numbered()
    merged: dict[tuple[object, ...], list[tuple[str, str, list[_Line]]]] = {}
    for (metric, track), cases in _tables(found.pairs).items():
        lines = [_line(pairs, labels, reasons, found.options.across_formats) for pairs in cases.values()]
        merged.setdefault(tuple(line.said for line in lines), []).append((metric, track, lines))
    names = [named(column) for column in found.columns]
    head = ("case", "on", f"{names[0]} *", *names[1:])
    return [*(_sheet(group, head, labels[0]) for group in merged.values()), *reasons.sheet()]


def _tables(pairs: Iterable[Pair]) -> dict[tuple[str, str], dict[Case, list[Pair]]]:
    """Pairs by metric and track, in the order of metrics, and in each by case."""
    made: dict[tuple[str, str], dict[Case, list[Pair]]] = {}
    for pair in pairs:
        end = pair.baseline
        case = (pair.match_key, pair.protocol_key, pair.placement, end.placement, end.impl, end.precision)
        made.setdefault((pair.metric, pair.track), {}).setdefault(case, []).append(pair)
    order = [(metric, track) for metric in METRICS for track in TRACKS]
    return {key: made[key] for key in order if key in made}


def _line(pairs: Sequence[Pair], labels: Sequence[str], reasons: Numbered, across_formats: bool) -> _Line:
    """Formats are named where rows may differ in them, evidence where it is not measured."""
    first = pairs[0]
    cells: dict[str, list[str]] = {label: [] for label in labels[1:]}
    for pair in pairs:
        cells[pair.candidate.column].append(_cell(pair, reasons, across_formats))
    form = f" in {first.baseline.precision}" if across_formats else ""
    return _Line(
        label=first.case,
        placement=first.placement,
        figure=value(first.baseline.value, first.unit),
        how=f"{first.baseline.impl}{form}{_evidence(first.baseline.evidence)}",
        cells=tuple("; ".join(cells[label]) for label in labels[1:]),
    )


def _cell(pair: Pair, reasons: Numbered, across_formats: bool) -> str:
    """The ratio of one column, its verdict, what else differs from the baseline, and the numbers of the reasons."""
    impl = f" {pair.candidate.impl}" if pair.candidate.impl != pair.baseline.impl else ""
    form = f" in {pair.candidate.precision}" if across_formats else ""
    why = f" ({numbers})" if (numbers := reasons.of(pair.reason)) else ""
    return f"{ratio(pair)} {pair.verdict}{impl}{form}{_evidence(pair.evidence)}{why}"


def _evidence(kind: str) -> str:
    return "" if kind == "measured" else f" ({kind})"


def _sheet(group: Sequence[tuple[str, str, list[_Line]]], head: tuple[str, ...], baseline: str) -> Sheet:
    """Tables of figures that follow from each other as one; the baseline's cells have all of their figures."""
    metrics, tracks = (", ".join(dict.fromkeys(names)) for names in zip(*(table[:2] for table in group), strict=True))
    rows = []
    for lines in zip(*(table[2] for table in group), strict=True):
        figures = ", ".join(dict.fromkeys(line.figure for line in lines))
        rows.append((lines[0].label, lines[0].placement, f"{figures} {lines[0].how}", *lines[0].cells))
    return Sheet(
        title=f"{metrics}; track {tracks}: ratio to * {baseline} [95 %], verdict, and why by number",
        head=head,
        rows=tuple(rows),
        right=frozenset(range(2, len(head))),
    )
