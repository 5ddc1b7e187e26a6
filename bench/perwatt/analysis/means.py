"""Geometric means of ratios over the cases of a workload."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from perwatt.analysis.pairing import SHOWN
from perwatt.analysis.result import Mean, Options, Pair
from perwatt.analysis.verdict import Ratio, judge

Case = tuple[str, str]


def of(pairs: Iterable[Pair], options: Options) -> list[Mean]:
    """The mean of each workload, metric, track, placement and pair of columns that has at least two cases.

    It is about these cases, not about all that might have been chosen; each counts once, however many implementations
    it was done by. What cases do not share (samples, runs) averages out; what they share (the chip, the gain of its
    power sensor) does not. Across formats, each two formats have a mean of their own.
    """
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        if pair.symbol is None:
            formats = _formats(pair) if options.across_formats else ""
            groups.setdefault((formats, *_key(pair)), []).append(pair)
    found = [(key[0], by_case) for key, members in groups.items() if len(by_case := _cases(members)) > 1]
    return [_mean(formats, list(by_case.values()), options.region) for formats, by_case in found]


def _formats(pair: Pair) -> str:
    return f"{pair.baseline.precision} / {pair.candidate.precision}"


def _key(pair: Pair) -> tuple[str, ...]:
    ends = pair.baseline.column, pair.candidate.column
    return pair.workload, pair.metric, pair.track, pair.placement, *ends, pair.evidence


def _cases(pairs: Iterable[Pair]) -> dict[Case, list[Pair]]:
    found: dict[Case, list[Pair]] = {}
    for pair in pairs:
        found.setdefault((pair.match_key, pair.protocol_key), []).append(pair)
    return found


def _mean(formats: str, cases: Sequence[Sequence[Pair]], region: float) -> Mean:
    weighted = [(1.0 / len(cases) / len(pairs), pair) for pairs in cases for pair in pairs]
    log = math.fsum(weight * math.log(pair.ratio) for weight, pair in weighted)
    lo = hi = None
    if all(pair.lo is not None for _, pair in weighted):
        down = _half([(w, math.log(pair.ratio / pair.lo) if pair.lo else math.inf, pair) for w, pair in weighted])
        up = _half([(w, math.log(pair.hi / pair.ratio) if pair.hi else math.inf, pair) for w, pair in weighted])
        lo, hi = math.exp(log - down), math.exp(log + up) if math.isfinite(up) else None
    first = cases[0][0]
    return Mean(
        workload=first.workload, metric=first.metric, track=first.track, placement=first.placement,
        baseline=first.baseline.column, candidate=first.candidate.column, evidence=first.evidence, formats=formats,
        cases=len(cases), ratio=math.exp(log), lo=lo, hi=hi,
        verdict=judge(Ratio(ratio=math.exp(log), lo=lo, hi=hi), region), reason="; ".join(_marks(cases)),
    )  # fmt: skip


def _half(parts: Iterable[tuple[float, float, Pair]]) -> float:
    """Half-width of the mean of weighted ones: parts of their own in quadrature, the common part whole."""
    known = list(parts)
    own = math.hypot(*(weight * math.sqrt(max(half**2 - pair.common**2, 0.0)) for weight, half, pair in known))
    return math.hypot(own, max(pair.common for _, _, pair in known))


def _marks(cases: Sequence[Sequence[Pair]]) -> Iterable[str]:
    """How many cases hold a row with a flag that matters."""
    ends = [[end for pair in pairs for end in (pair.baseline, pair.candidate)] for pairs in cases]
    flagged = [{flag for end in of_case for flag in end.flags} for of_case in ends]
    for flag in sorted(SHOWN & set[str]().union(*flagged)):
        yield f"{sum(flag in flags for flags in flagged)} of {len(cases)} cases {flag}"
