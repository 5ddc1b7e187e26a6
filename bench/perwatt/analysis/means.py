"""Geometric means of ratios over the cases of a workload."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from perwatt.analysis.result import Mean, Pair
from perwatt.analysis.verdict import Ratio, judge


def of(pairs: Iterable[Pair], region: float) -> list[Mean]:
    """The mean of each workload, metric, track, placement and pair of columns that has at least two cases.

    It is about these cases, not about all that might have been chosen. What cases do not share (samples, runs) averages
    out; what they share (the chip, the gain of its power sensor) does not.
    """
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        if pair.symbol is None:
            groups.setdefault(_key(pair), []).append(pair)
    return [_mean(members, region) for members in groups.values() if len(_cases(members)) > 1]


def _key(pair: Pair) -> tuple[str, ...]:
    ends = pair.baseline.column, pair.candidate.column
    return pair.workload, pair.metric, pair.track, pair.placement, *ends, pair.evidence


def _cases(pairs: Sequence[Pair]) -> set[tuple[str, str]]:
    return {(pair.match_key, pair.protocol_key) for pair in pairs}


def _mean(pairs: Sequence[Pair], region: float) -> Mean:
    log = math.fsum(math.log(pair.ratio) for pair in pairs) / len(pairs)
    lo = hi = None
    if all(pair.lo is not None for pair in pairs):
        down = _half([math.log(pair.ratio / pair.lo) if pair.lo else math.inf for pair in pairs], pairs)
        up = _half([math.log(pair.hi / pair.ratio) if pair.hi else math.inf for pair in pairs], pairs)
        lo, hi = math.exp(log - down), math.exp(log + up) if math.isfinite(up) else None
    first = pairs[0]
    return Mean(
        workload=first.workload, metric=first.metric, track=first.track, placement=first.placement,
        baseline=first.baseline.column, candidate=first.candidate.column, evidence=first.evidence,
        cases=len(_cases(pairs)), ratio=math.exp(log), lo=lo, hi=hi,
        verdict=judge(Ratio(ratio=math.exp(log), lo=lo, hi=hi), region),
    )  # fmt: skip


def _half(halves: Sequence[float], pairs: Sequence[Pair]) -> float:
    """Half-width of the mean: parts of their own in quadrature over the number, the common part whole."""
    own = math.sqrt(math.fsum(max(h * h - p.common**2, 0.0) for h, p in zip(halves, pairs, strict=True))) / len(pairs)
    return math.hypot(own, max(pair.common for pair in pairs))
