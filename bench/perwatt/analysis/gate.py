"""A gate: does anything get worse than a baseline by more than its limit, beyond what noise explains?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from perwatt.analysis import columns as columns_of
from perwatt.analysis import pairing
from perwatt.analysis.facts import Ground, refusals
from perwatt.analysis.gate_presence import Identity, identity, presence
from perwatt.analysis.gate_reading import Reading, normalized, reading
from perwatt.analysis.gate_result import Change, Check, Gate, GateOptions, Outcome, Yardstick
from perwatt.analysis.groups import Column
from perwatt.analysis.joining import Index, meetings
from perwatt.analysis.metrics import METRICS
from perwatt.analysis.origin import runs_of, twice
from perwatt.analysis.result import Options
from perwatt.analysis.sides import Side
from perwatt.analysis.tracks import LIKE, Choice, chosen
from perwatt.analysis.verdict import holm
from perwatt.errors import InputError, expected

ONE_SIDE = 0.025  # beyond one end of a 95 % interval
TIME = "time_s"  # the figure of a yardstick
Meeting = tuple[Column, Choice, Column, Choice, str]


@dataclass(slots=True)
class _Found:
    """Readings and what could not be read, as they are gathered."""

    readings: list[Reading] = field(default_factory=list)
    yard: list[Reading] = field(default_factory=list)
    not_compared: list[Change] = field(default_factory=list)
    met: list[Identity] = field(default_factory=list)


def gate(current: Side, baseline: Side, options: GateOptions | None = None) -> Gate:
    """Judge a side by a baseline.

    Args:
        current: what is judged; :func:`perwatt.load` reads it.
        baseline: what it is judged by.
        options: limits, and what to normalize by.

    Returns:
        A check of every figure that has a limit, and what cannot be checked.

    Raises:
        InputError: neither side has a yardstick of that name.
    """
    options = options or GateOptions()
    sides = replace(baseline, name="baseline"), replace(current, name="current")
    found = _Found()
    for one in _meetings(sides, options):
        _read(one, options, found)
    if options.normalize_by is not None:
        _normalize(sides, options.normalize_by, found)
    rows = presence(*sides, met=found.met)
    return Gate(
        checks=tuple(_checks(found, options)),
        broken=tuple(rows.broken),
        vanished=tuple(rows.vanished),
        new=tuple(rows.new),
        recovered=tuple(rows.recovered),
        failing=tuple(rows.failing),
        not_compared=tuple(found.not_compared),
        yardstick=tuple(map(_yardstick, found.yard)),
        notes=tuple(_notes(sides, found, options)),
        skipped=tuple(line for side in sides for line in side.skipped),
        strict=options.strict,
    )


def _plan(options: GateOptions) -> Options:
    return Options(metrics=tuple(options.limits), track=LIKE, region=0.0, allowance=options.allowance)


def _meetings(sides: tuple[Side, Side], options: GateOptions) -> Iterator[Meeting]:
    """Groups of both sides of the same work, on the same kind of chip, done in the same way."""
    columns, _ = columns_of.columns(sides, _plan(options))
    before = {column.chip: column for column in columns if column.side == sides[0].name}
    now = {column.chip: column for column in columns if column.side == sides[1].name}
    for a, b in ((before[chip], now[chip]) for chip in before if chip in now):
        for place, groups, other, others in meetings(Index(a, False), Index(b, False)):
            for _, left, right in chosen(a, groups, b, others, LIKE):
                if a.how(left.group) == b.how(right.group):
                    yield a, left, b, right, place.with_(other)


def _read(met: Meeting, options: GateOptions, found: _Found) -> None:
    """Readings of one case, and those of the time where it is a yardstick."""
    a, left, b, right, placement = met
    found.met += [identity(a.rows, int(a.first[left.group])), identity(b.rows, int(b.first[right.group]))]
    yard = options.normalize_by is not None and options.normalize_by in _names(a, left.group)
    for name in [TIME] if yard else options.limits:
        metric = METRICS[name]
        ends = pairing.end(a, left, metric), pairing.end(b, right, metric)
        there = [not np.isnan(one.figure.log) for one in ends]
        if not any(there):
            continue
        grounds = [Ground(column=a, group=left.group), Ground(column=b, group=right.group)]
        if all(there):
            reasons = list(refusals(metric, grounds, _plan(options)))
        else:
            reasons = [f"not known of {grounds[there.index(False)].column.side}"]
        if reasons:
            found.not_compared += [_row(b, right.group, f"{name}: {reason}") for reason in reasons]
            continue
        pair = pairing.pair(metric, LIKE, placement, *ends, _plan(options))
        (found.yard if yard else found.readings).append(reading(metric, pair, *ends))


def _names(column: Column, group: int) -> list[str | None]:
    """By what a case may be called as yardstick."""
    return [column.text("match_key", group), *column.texts("workload", group), *column.texts("case", group)]


def _row(column: Column, group: int, what: str) -> Change:
    file, line = column.rows.place(int(column.first[group]))
    case = next(iter(column.texts("case", group)), "")
    key = column.text("match_key", group)
    return Change(case=case, impl=column.how(group), chip=column.chip, match_key=key, what=what, file=file, line=line)


def _normalize(sides: tuple[Side, Side], name: str, found: _Found) -> None:
    """Take the yardstick's change off every time and rate; what has no yardstick in its own run is not judged."""
    known = dict.fromkeys(
        text for side in sides for column in ("workload", "case", "match_key") for text in side.rows.codes(column)[1]
    )
    if name not in known:
        raise InputError(expected(name, known, "a workload or case"), field="--normalize-by")
    kept = []
    for one in found.readings:
        if one.metric.spread != "time" or one.metric.kind != "time":
            kept.append(one)
            continue
        yard = [each for each in found.yard if each.pair.candidate.chip == one.pair.candidate.chip]
        runs = [frozenset[str]().union(*(each.runs[side] for each in yard)) for side in (0, 1)]
        if yard and one.runs[0] <= runs[0] and one.runs[1] <= runs[1]:
            kept.append(normalized(one, yard))
        else:
            found.not_compared.append(_without(one, f"its run has no {name} that is ok on both sides"))
    found.readings = kept


def _without(one: Reading, reason: str) -> Change:
    pair = one.pair
    return Change(
        case=pair.case, impl=pair.candidate.impl, chip=pair.candidate.chip, match_key=pair.match_key,
        what=f"{pair.metric}: {reason}", file=one.place[0], line=one.place[1],
    )  # fmt: skip


def _yardstick(one: Reading) -> Yardstick:
    pair = one.pair
    return Yardstick(
        case=pair.case, impl=pair.candidate.impl, chip=pair.candidate.chip, ratio=pair.ratio, lo=pair.lo, hi=pair.hi
    )


def _checks(found: _Found, options: GateOptions) -> Iterator[Check]:
    """All checks; how many there are decides how far beyond its limit each has to be.

    Figures of the same time, such as the rate of a case, are one check more each. What is counted exactly is never
    beyond its limit by chance, so it makes nothing harder for others.
    """
    used = [max(options.limits[one.metric.name], one.floor) for one in found.readings]
    chances = [one.p_value(limit) for one, limit in zip(found.readings, used, strict=True)]
    random = [at for at, one in enumerate(found.readings) if 0.0 < one.up < math.inf]
    proven = dict(zip(random, holm([chances[at] for at in random], ONE_SIDE), strict=True))
    for at, (one, limit, p) in enumerate(zip(found.readings, used, chances, strict=True)):
        fails = proven.get(at, p == 0.0) and one.worse(one.log + one.up) > limit
        yield _check(one, limit, p, fails, len(random), options)


def _check(one: Reading, limit: float, p: float, fails: bool, family: int, options: GateOptions) -> Check:
    pair, asked = one.pair, options.limits[one.metric.name]
    known = math.isfinite(one.up) and math.isfinite(one.down)
    high = one.worse(one.log - one.down) if known else None
    outcome = Outcome.FAILED if fails else Outcome.PASSED if high is not None and high <= limit else Outcome.UNCLEAR
    normal = one.log != math.log(pair.ratio)
    reasons = []
    if outcome == Outcome.UNCLEAR:
        reasons.append(_undecided(known, p, family))
    if limit > asked:
        reasons.append(f"limit raised from {100 * asked:.3g} % to the learned noise floor of {100 * limit:.3g} %")
    return Check(
        match_key=pair.match_key, case=pair.case, workload=pair.workload, impl=pair.candidate.impl,
        chip=pair.candidate.chip, placement=pair.placement, metric=pair.metric, unit=pair.unit,
        baseline=pair.baseline.value, current=pair.candidate.value, worse=one.worse(one.log),
        worse_lo=one.worse(one.log + one.up) if known else None, worse_hi=high, limit=limit, asked=asked, p=p,
        outcome=outcome, reason="; ".join([*reasons, *_why(pair.reason)]), normalized=normal, evidence=pair.evidence,
        runs=(pair.baseline.runs, pair.candidate.runs),
    )  # fmt: skip


def _undecided(known: bool, p: float, family: int) -> str:
    if not known:
        return "no interval, so nothing can be said: take more runs"
    if p <= ONE_SIDE:
        return f"beyond the limit by itself, not among {family} checks: take more runs or samples"
    return "the interval reaches beyond the limit: take more runs or samples"


def _why(reason: str) -> list[str]:
    """What a pair's interval rests on, without what would settle its own verdict."""
    return [part for part in reason.split("; ") if part and "settle" not in part and "border" not in part
            and "no interval" not in part]  # fmt: skip


def _notes(sides: Sequence[Side], found: _Found, options: GateOptions) -> Iterator[str]:
    for side in sides:
        if side.repeated:
            file, line = side.repeated[0]
            yield f"{side.name}: {len(side.repeated)} rows are in several files and count once, the first {file}:{line}"
        if again := twice(side.rows):
            yield f"{side.name}: run {again[0]} is there by itself and in a pooled result, so it counts twice"
        if keyless := side.rows.empty("match_key"):
            yield f"{side.name}: {keyless} rows have no match key, so nothing tells what they may be compared with"
    for run in sorted(runs_of(sides[0].rows) & runs_of(sides[1].rows)):
        yield f"run {run} is on both sides: it is compared with itself"
    for one in found.yard:
        if (change := one.worse(one.log)) and one.p_value(options.limits.get(TIME, 0.0)) < ONE_SIDE:
            yield f"the yardstick {one.pair.case} itself got slower by {100 * change:.2g} %"
