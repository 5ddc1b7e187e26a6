"""A claim on all of its levels, and many claims over the same rows."""

from __future__ import annotations

from collections.abc import Iterable

from perwatt.analysis.claims.claim import Claim
from perwatt.analysis.claims.datasheet import datasheet
from perwatt.analysis.claims.measured import measured
from perwatt.analysis.claims.published import published
from perwatt.analysis.claims.result import Judgement
from perwatt.analysis.sides import Side


def judged(claim: Claim, given: Side | None = None) -> Judgement:
    """What each level says of a claim; no level knows of the others.

    Args:
        claim: to be judged.
        given: measured rows; None where there are none.
    """
    return Judgement(
        claim=claim, datasheet=datasheet(claim), published=published(claim), measured=measured(claim, given)
    )  # fmt: skip


def all_judged(claims: Iterable[Claim], given: Side | None = None) -> list[Judgement]:
    """The same for many."""
    return [judged(claim, given) for claim in claims]
