"""Results of several sides compared: pairs with verdicts, and all that could not be matched, with its reason."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from perwatt.analysis import columns as columns_of
from perwatt.analysis import means, numerics, pairing
from perwatt.analysis.columns import left_out
from perwatt.analysis.facts import Ground, refusals
from perwatt.analysis.groups import Column
from perwatt.analysis.joining import Index, meetings
from perwatt.analysis.metrics import METRICS, Metric
from perwatt.analysis.origin import runs_of, twice
from perwatt.analysis.result import ColumnFacts, Comparison, LeftOut, Options, Pair, Refusal
from perwatt.analysis.sides import Side
from perwatt.analysis.tracks import Choice, chosen, not_chosen
from perwatt.errors import InputError, expected

TRACKS = ("best", "like", "all")


def compare(*sides: Side, options: Options | None = None) -> Comparison:
    """Compare sides with a baseline.

    Args:
        sides: at least two, or one whose rows are of several kinds of chip; :func:`perwatt.load` reads them.
        options: how; the first side is the baseline by default.

    Returns:
        All pairs with their verdicts. Without any, :attr:`Comparison.pairs` is empty and the rest says why.

    Raises:
        InputError: an option names what is not there, or there is nothing to compare with.
    """
    options = options or Options()
    _check(options)
    columns, excluded = columns_of.columns(sides, options)
    baseline = _baseline(columns, sides, options.baseline)
    if baseline is None or len(columns) < 2:
        if len(sides) < 2:
            raise InputError(f"found one side with {len(columns)} kind of chip, expected two sides to compare")
        return _nothing(sides, columns, excluded, options)
    others = [column for column in columns if column is not baseline]
    return _compared(sides, baseline, others, excluded, options)


def _check(options: Options) -> None:
    for name in options.metrics:
        if name not in METRICS:
            raise InputError(expected(name, METRICS), field="metric")
    if options.track not in TRACKS:
        raise InputError(expected(options.track, TRACKS), field="track")


def _baseline(columns: Sequence[Column], sides: Sequence[Side], name: str | None) -> Column | None:
    """The column by its label, its side's name or its chip; that of the first side without a name."""
    if name is None:
        return next((column for column in columns if column.side == sides[0].name), None)
    for attribute in ("label", "side", "chip"):
        named = [column for column in columns if getattr(column, attribute) == name]
        if named:
            return named[0]
    known = dict.fromkeys([*(side.name for side in sides), *(column.label for column in columns)])
    if name in known:
        return None  # a side without a row that is ok
    raise InputError(expected(name, known), field="baseline")


def _compared(
    sides: Sequence[Side], baseline: Column, others: Sequence[Column], excluded: list[LeftOut], options: Options
) -> Comparison:
    pairs: list[Pair] = []
    refused: list[Refusal] = []
    unmatched: list[LeftOut] = []
    mine, indexes = Index(baseline, options.across_formats), list[Index]()
    used: set[int] = set()  # groups that stand in some pair or refusal
    idle: dict[int, str] = {}  # why a group that met others stands in none
    for other in others:
        index = Index(other, options.across_formats)
        indexes.append(index)
        theirs, their_idle = set[int](), dict[int, str]()
        metrics = [METRICS[name] for name in options.metrics] or _known(baseline, other)
        for place, groups, their_place, their_groups in meetings(mine, index):
            stood, their_stood = set[int](), set[int]()
            known: dict[tuple[Choice, Choice], list[Pair]] = {}
            for track, a, b in chosen(baseline, groups, other, their_groups, options.track):
                stood.add(a.group)
                their_stood.add(b.group)
                if (a, b) in known:
                    pairs += [replace(one, track=track) for one in known[a, b]]
                    continue
                found = list(_by_metrics(metrics, track, place.with_(their_place), (baseline, a), (other, b), options))
                known[a, b] = [one for one in found if isinstance(one, Pair)]
                pairs += known[a, b]
                refused += [one for one in found if isinstance(one, Refusal)]
            used |= stood
            theirs |= their_stood
            idle |= not_chosen(baseline, set(groups) - stood, other, their_groups, options.track)
            their_idle |= not_chosen(other, set(their_groups) - their_stood, baseline, groups, options.track)
        unmatched += _unmatched(index, [mine], theirs, their_idle)
    unmatched = _unmatched(mine, indexes, used, idle) + unmatched
    return Comparison(
        baseline=baseline.label,
        columns=tuple(_facts(column) for column in (baseline, *others)),
        pairs=tuple(_ordered(pairs)),
        means=tuple(means.of(pairs, options)),
        refused=tuple(dict.fromkeys(refused)),
        unmatched=tuple(unmatched),
        excluded=tuple(excluded),
        skipped=tuple(line for side in sides for line in side.skipped),
        notes=tuple(_notes(sides, (baseline, *others))),
        options=options,
    )


def _nothing(sides: Sequence[Side], columns: Sequence[Column], excluded: list[LeftOut], options: Options) -> Comparison:
    """What is found where a side has no row that may be compared."""
    rest = [
        left_out(column.label, column.rows, row, "there is no other side with rows to compare with")
        for column in columns
        for row in range(len(column.rows))
    ]
    return Comparison(
        baseline=options.baseline or sides[0].name, columns=tuple(map(_facts, columns)), pairs=(), means=(), refused=(),
        unmatched=tuple(rest), excluded=tuple(excluded), skipped=tuple(line for side in sides for line in side.skipped),
        notes=tuple(_notes(sides, columns)), options=options,
    )  # fmt: skip


def _known(a: Column, b: Column) -> list[Metric]:
    """Metrics that some row has."""
    return [metric for metric in METRICS.values() if a.knows(metric) or b.knows(metric)]


def _by_metrics(
    metrics: Sequence[Metric],
    track: str,
    placement: str,
    a: tuple[Column, Choice],
    b: tuple[Column, Choice],
    options: Options,
) -> Iterator[Pair | Refusal]:
    for metric in metrics:
        ends = pairing.end(*a, metric), pairing.end(*b, metric)
        there = [not math.isnan(one.figure.log) for one in ends]
        if not any(there) and not options.metrics:
            continue
        grounds = [Ground(column=column, group=choice.group) for column, choice in (a, b)]
        reasons = list(refusals(metric, grounds, options)) if all(there) else [_lacking(metric, grounds, there)]
        if not reasons:
            yield pairing.pair(metric, track, placement, *ends, options)
        for reason in reasons:
            yield _refusal(metric, ends, grounds, reason, options)


def _lacking(metric: Metric, grounds: Sequence[Ground], there: Sequence[bool]) -> str:
    if metric.whole and any(ground.column.texts("per_layer", ground.group) for ground in grounds):
        return "a model cut in layers (per_layer) has none"
    lacking = [ground.column.label for ground, has in zip(grounds, there, strict=True) if not has]
    return f"not known of {' and '.join(lacking)}"


def _refusal(
    metric: Metric, ends: Sequence[pairing.End], grounds: Sequence[Ground], reason: str, options: Options
) -> Refusal:
    a, b = grounds
    one, other = (None if math.isnan(end.figure.log) else math.exp(end.figure.log) for end in ends)
    key = a.column.text("task_key" if options.across_formats else "match_key", a.group) or ""
    case = a.column.text("case", a.group) or ""
    return Refusal(
        match_key=key, case=case, metric=metric.name, baseline=a.column.label, candidate=b.column.label, reason=reason,
        values=(one, other), evidence=(a.evidence(metric), b.evidence(metric)),
    )  # fmt: skip


def _unmatched(index: Index, others: Sequence[Index], used: set[int], idle: dict[int, str]) -> list[LeftOut]:
    """Rows of a column that are in no pair with any of the others."""
    column, found = index.column, []
    for group in range(column.size):
        if group in used:
            continue
        reason = idle.get(group) or "; ".join(dict.fromkeys(other.why_not(index, group) for other in others))
        found += [left_out(column.label, column.rows, int(row), reason) for row in column.members[group]]
    return found


def _facts(column: Column) -> ColumnFacts:
    return ColumnFacts(
        label=column.label, side=column.side, chip=column.chip, files=len(column.rows.files), rows=len(column.rows),
        groups=column.size, raw=len(column.spread.raw),
    )  # fmt: skip


def _ordered(pairs: list[Pair]) -> list[Pair]:
    """Pairs of the same case together, whichever column they are of."""
    place: dict[tuple[str, str, str], int] = {}
    for one in pairs:
        place.setdefault((one.match_key, one.protocol_key, one.placement), len(place))
    metrics = {name: number for number, name in enumerate(METRICS)}
    return sorted(
        pairs, key=lambda one: (place[one.match_key, one.protocol_key, one.placement], metrics[one.metric], one.track)
    )


def _notes(sides: Sequence[Side], columns: Sequence[Column]) -> Iterator[str]:
    for side in sides:
        if side.repeated:
            file, line = side.repeated[0]
            count = len(side.repeated)
            yield f"{side.name}: {count} rows are in several files and count once, the first {file}:{line}"
        if again := twice(side.rows):
            yield f"{side.name}: run {again[0]} is there by itself and in a pooled result, so it counts twice"
        if not any(column.side == side.name for column in columns):
            yield f"{side.name}: none of its {len(side.rows)} rows is ok"
    for refused in dict.fromkeys(line for column in columns for line in column.samples.refused):
        yield f"{refused}; the interval columns are used"
    yield from numerics.notes(columns)
    runs: dict[str, str] = {}
    for column in columns:
        for run in sorted(runs_of(column.rows)):
            if runs.setdefault(run, column.side) != column.side:
                yield f"{runs[run]} and {column.side} both have rows of run {run}: they are not independent"
                return
