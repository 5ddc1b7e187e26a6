"""How sure a regression is: the ratio of a case with what its interval is made of, against a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from perwatt.analysis.levels import FEW
from perwatt.analysis.metrics import Metric
from perwatt.analysis.pairing import End
from perwatt.analysis.result import Pair
from perwatt.analysis.verdict import Z95
from perwatt.timing.student import student_t

MANY = 1e6  # degrees of freedom from which Student's t is the normal distribution
LEAST_P = 1e-12  # smaller probabilities are not told apart
STEPS = 50  # of bisection, each of which halves the logarithm's uncertainty


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How a case changed by one figure.

    Attributes:
        metric: the figure.
        pair: both sides with their ratio, which is above 1 where the case got better.
        log: logarithm of the ratio that is judged.
        down: half-width of its 95 % interval below; infinite where nothing tells.
        up: the same above.
        error: standard error of the logarithm, of the side that a regression is judged by.
        floor: what the case is known to differ from itself by, relative; 0 where that was not learned.
        freedom: degrees of freedom of the interval.
        runs: names of the runs on either side.
        place: file and line of the current row.
    """

    metric: Metric
    pair: Pair
    log: float
    down: float
    up: float
    error: float
    floor: float
    freedom: float
    runs: tuple[frozenset[str], frozenset[str]]
    place: tuple[str, int]

    def p_value(self, limit: float) -> float:
        """One-sided probability of so low a ratio if the true one were at the limit; 1 where nothing tells."""
        bound = -math.log1p(limit) if self.metric.better < 0 else math.log1p(-limit)
        distance = bound - self.log
        if distance <= 0.0 or not math.isfinite(self.up):
            return 1.0
        return upper_tail(distance / self.error, self.freedom) if self.error > 0.0 else 0.0

    def worse(self, log: float) -> float:
        """A logarithm of the ratio as relative change for the worse."""
        return math.expm1(-log) if self.metric.better < 0 else -math.expm1(log)


def reading(metric: Metric, pair: Pair, a: End, b: End) -> Reading:
    """The reading of a pair that was made of two ends with no region of its own, so that it has the learned floor."""
    log = math.log(pair.ratio)
    down = log - math.log(pair.lo) if pair.lo else math.inf
    up = math.log(pair.hi) - log if pair.hi else math.inf
    error, freedom = welch(_parts(metric, a, b, up))
    return Reading(
        metric=metric,
        pair=pair,
        log=log,
        down=down,
        up=up,
        error=error,
        floor=pair.region,
        freedom=freedom,
        runs=(_runs(a), _runs(b)),
        place=b.column.rows.place(int(b.column.first[b.choice.group])),
    )


def normalized(one: Reading, yard: Sequence[Reading]) -> Reading:
    """The ratio over the geometric mean of those of the yardstick, all independent but for what all cases share.

    What chips and sensors may be off by slows the yardstick alike, so the allowance for it leaves both.
    """
    count = len(yard)
    down, up = (_unshared(one, side) for side in (one.down, one.up))
    yard_down = math.hypot(*(_unshared(each, each.down) for each in yard)) / count
    yard_up = math.hypot(*(_unshared(each, each.up) for each in yard)) / count
    error, freedom = welch([(_half(one), one.freedom), *((_half(each) / count, each.freedom) for each in yard)])
    return replace(
        one,
        log=one.log - sum(each.log for each in yard) / count,
        down=math.hypot(down, yard_up),
        up=math.hypot(up, yard_down),
        error=error,
        floor=math.hypot(one.floor, *(each.floor / count for each in yard)),
        freedom=freedom,
    )


def _half(one: Reading) -> float:
    """The half-width that its standard error and degrees of freedom make, without what all cases share."""
    error = math.sqrt(max(one.error**2 - (one.pair.common / Z95) ** 2, 0.0))
    return error * student_t(0.95, one.freedom)


def _unshared(one: Reading, side: float) -> float:
    return math.sqrt(max(side**2 - one.pair.common**2, 0.0)) if math.isfinite(side) else math.inf


def upper_tail(t: float, freedom: float) -> float:
    """Probability that Student's t is above ``t``, which is not below 0."""
    low, high = math.log(LEAST_P), math.log(0.5)
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        if student_t(1.0 - 2.0 * math.exp(middle), freedom) > t:
            low = middle
        else:
            high = middle
    return math.exp(high)


def welch(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Standard error and degrees of freedom of a sum of independent parts: 95 % half-widths, each with its own freedom.

    Welch, B. L. (1947), "The generalization of 'Student's' problem when several different population variances are
    involved", Biometrika 34. Between 1 and 2, where quantiles are not known well enough, it is 1.
    """
    known = [((half / student_t(0.95, freedom)) ** 2, freedom) for half, freedom in parts if math.isfinite(half)]
    whole = sum(variance for variance, _ in known)
    below = sum(variance**2 / freedom for variance, freedom in known)
    freedom = min(whole**2 / below, MANY) if below > 0.0 else MANY
    return math.sqrt(whole), freedom if freedom >= 2.0 else 1.0


def _parts(metric: Metric, a: End, b: End, up: float) -> list[tuple[float, float]]:
    """What the upper half-width is made of: either side, and the allowances, which scatter by no sample of ours."""
    raises, lowers = (b, a) if metric.better > 0 else (a, b)
    sides = [(raises.figure.up, _of_side(raises)), (lowers.figure.down, _of_side(lowers))]
    if not all(math.isfinite(half) for half in (up, *(half for half, _ in sides))):
        return []
    if up == 0.0:
        return [(0.0, MANY)]
    return [*sides, (math.sqrt(max(up**2 - sum(half**2 for half, _ in sides), 0.0)), MANY)]


def _of_side(end: End) -> float:
    """Of the level that scatters most often: chips where there are enough, then processes, then samples."""
    chips, runs = end.figure.chips, end.figure.runs
    members = end.column.members[end.choice.group]
    if chips >= FEW:
        return float(chips - 1)
    if runs - chips >= 2:
        return float(runs - chips)
    if runs - chips == 1 and len(members) == 1 and not end.column.is_raw(end.choice.group):
        return 1.0  # the row's own interval is that of two processes
    effective = float(np.nansum(end.column.rows.numbers("n_eff")[members]))
    return MANY if effective == 0.0 else 1.0 if effective < 3.0 else min(effective - 1.0, MANY)


def _runs(end: End) -> frozenset[str]:
    return frozenset(end.column.texts("run_id", end.choice.group))
