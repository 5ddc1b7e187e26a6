"""From a figure with its interval to a word on a claim (docs/claims.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from perwatt.analysis.claims.claim import Bar

SLACK = 1e-9  # relative; what is lost where decimals such as 1.45 are added up


class Word(StrEnum):
    """What a level says of a claim (docs/claims.md)."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    NOT_DECIDED = "not_decided"
    NOT_TESTABLE = "not_testable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A figure in the form of the claim, with its interval; ends are None where nothing tells."""

    value: float
    lo: float | None
    hi: float | None


def in_form(bar: Bar, ratio: float) -> float:
    """A ratio that is above 1 for the better side, as the claim says it: as it is, or as the share that is saved."""
    return 1.0 - 1.0 / ratio if bar.form == "saving" else ratio


def ratio_of(bar: Bar) -> float:
    """The claim's figure as a ratio that is above 1 for the better side."""
    return 1.0 / (1.0 - bar.value) if bar.form == "saving" else bar.value


def judge(bar: Bar, found: Span, *, roof: bool) -> Word:
    """The word on a figure.

    ``at_least`` is taken at its word, without rounding. ``about`` and ``up_to`` allow for the printed digits, and
    ``up_to`` is contradicted by a roof below it alone: a single case that falls short says nothing of the best one.

    Args:
        bar: what is claimed.
        found: in the form of the claim.
        roof: whether it bounds what is claimed, rather than being one case of it.
    """
    if found.lo is None or found.hi is None:
        return Word.NOT_DECIDED
    low, high = bar.ends
    low, high, least = low * (1 - SLACK), high * (1 + SLACK), bar.value * (1 - SLACK)
    match bar.quantifier:
        case "at_least":
            inside, outside = found.lo >= least, found.hi < least
        case "up_to":
            inside, outside = found.lo >= low, roof and found.hi < low
        case _:
            inside, outside = low <= found.lo and found.hi <= high, found.hi < low or found.lo > high
    return Word.SUPPORTED if inside else Word.CONTRADICTED if outside else Word.NOT_DECIDED


def falls_short(bar: Bar, found: Span) -> bool:
    """Whether cases are all below what is claimed to be reached at best, which neither supports nor contradicts it."""
    return bar.quantifier == "up_to" and found.hi is not None and found.hi < bar.ends[0] * (1 - SLACK)


def together(words: Sequence[Word]) -> Word:
    """The word on several things that all have to hold."""
    for word in (Word.CONTRADICTED, Word.NOT_TESTABLE, Word.NOT_DECIDED):
        if word in words:
            return word
    return Word.SUPPORTED


def alike(words: Sequence[Word]) -> Word:
    """The word on several cases of one claim: theirs where they agree."""
    return words[0] if len(set(words)) == 1 else Word.NOT_DECIDED
