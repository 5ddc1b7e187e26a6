"""From a ratio with its interval to a word: faster, slower, same or unclear (method: comparing)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

REGION = 0.02  # ratios within 1 +- this are the same for any practical purpose
Z95 = NormalDist().inv_cdf(0.975)


class Verdict(StrEnum):
    """What an interval says. Above 1 is better for the candidate, whatever is measured."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    UNCLEAR = "unclear"


MEANING = {
    Verdict.FASTER: "the whole interval is above 1 + R: the candidate is better",
    Verdict.SLOWER: "the whole interval is below 1 - R: the candidate is worse",
    Verdict.SAME: "the whole interval is within 1 +- R",
    Verdict.UNCLEAR: "anything else; the reason says what would settle it",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """A ratio and its 95 % interval; above 1 is better for the candidate.

    Attributes:
        ratio: the point.
        lo: lower end; None where nothing tells.
        hi: upper end; None where nothing tells, or where there is none above a known ``lo``.
    """

    ratio: float
    lo: float | None
    hi: float | None


def judge(found: Ratio, region: float = REGION) -> Verdict:
    """The verdict on an interval, R being ``region``.

    Raises:
        ValueError: R is not within 0 and 1.
    """
    if not 0.0 <= region < 1.0:
        raise ValueError(f"found a region of {region}, expected 0 to 1")
    if found.lo is None:
        return Verdict.UNCLEAR
    if found.lo > 1.0 + region:
        return Verdict.FASTER
    if found.hi is None or (found.lo < 1.0 - region <= found.hi) or found.lo <= 1.0 + region < found.hi:
        return Verdict.UNCLEAR
    return Verdict.SLOWER if found.hi < 1.0 - region else Verdict.SAME


def p_value(found: Ratio, bound: float = 1.0) -> float:
    """One-sided probability of so low a ratio if the true one were at ``bound``; 1 where nothing tells.

    The interval is read as that of a log-normal estimate, by its end towards the bound.
    """
    end = found.hi if found.ratio < bound else found.lo
    if end is None or not 0.0 < end < math.inf or found.lo is None or found.hi is None:
        return 1.0
    error = abs(math.log(end / found.ratio)) / Z95
    distance = math.log(found.ratio / bound)
    if error == 0.0:
        return 0.0 if distance < 0.0 else 1.0
    return NormalDist().cdf(distance / error)


def holm(p_values: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """Which hypotheses are rejected so that the chance of any false rejection is at most ``alpha``.

    Holm, S. (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2).
    """
    rejected = [False] * len(p_values)
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[at] > alpha / (len(p_values) - rank):
            break
        rejected[at] = True
    return rejected
