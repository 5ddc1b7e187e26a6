"""Which measured rows are of a claim: of its chips, its scope, its formats and its kind of work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perwatt.analysis.claims.claim import UNSPECIFIED, Claim, Side, a_scope
from perwatt.analysis.sides import Side as Given
from perwatt.analysis.table import Rows
from perwatt.hardware import chips
from perwatt.hardware.sheet import KINDS
from perwatt.results.schema import Status
from perwatt.spec.precision import POLICIES

HOST_COPIES = ("h2d", "d2h")  # ops of memcpy that cross to the host
PLACEMENTS = {"chip": ("device", "chip"), "instance": ("node",), "server": ("node",)}
LARGE = ("cluster",)
"""Placements of rows that are of a scope; what is larger than a host is a cluster."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Rows of one side of a claim, and why others of that chip are not among them."""

    given: Given
    reasons: tuple[str, ...] = ()

    @property
    def some(self) -> bool:
        """Whether there are any."""
        return len(self.given.rows) > 0


def kept(claim: Claim, side: Side, given: Given) -> Kept:
    """The rows that bear on a claim."""
    rows = given.rows
    names = [name for name in rows.codes("chip")[1] if (sheet := chips.known(name)) and sheet.name == side.chip]
    rows = rows.where(rows.is_text("chip", *names) & rows.is_text("workload", claim.quantity.workload))
    reasons = []
    for fits, reason in _sieves(claim, side):
        fit = fits(rows)
        if not fit.all():
            reasons.append(f"{int((~fit).sum())} of {len(rows)} rows of {side.chip} {reason}")
            rows = rows.where(fit)
    return Kept(given=Given(name=side.chip, rows=rows), reasons=tuple(reasons))


def _sieves(claim: Claim, side: Side) -> Iterator[tuple[Callable[[Rows], Mask], str]]:
    """What keeps a row, and what to say of those it does not keep."""
    placements = PLACEMENTS.get(claim.scope, LARGE)
    yield lambda rows: rows.is_text("status", Status.OK), "are not ok"
    yield (
        lambda rows: rows.is_text("placement", *placements) & _is_whole(claim, side, rows),
        f"are not of {a_scope(claim.scope)}{f' of {side.system.chips} chips' if side.system else ''}, "
        "as the claim is: one is not judged from the other",
    )
    if claim.quantity.cold:
        yield lambda rows: rows.is_text("cache", "cold"), "are from a cache, not from memory"
        yield lambda rows: ~_named(rows, *HOST_COPIES), "are copies from or to the host"
    if wanted := format_of(claim, side):
        policies = [name for name, policy in POLICIES.items() if policy.compute in KINDS.get(wanted, (wanted,))]
        yield lambda rows: rows.is_text("precision", *policies), f"are in another format than {wanted}"
    if claim.model:
        yield lambda rows: _named(rows, claim.model), f"are not of {claim.model}"


def format_of(claim: Claim, side: Side) -> str:
    """The format that rows of a side have to be in; empty for any."""
    if claim.format == UNSPECIFIED:
        return ""
    return side.format if claim.format == "sides" else claim.format


def _is_whole(claim: Claim, side: Side, rows: Rows) -> Mask:
    """Rows of as many chips as the system has; of whole chips where the claim is of none, or of one."""
    if claim.scope == "chip" or side.system is None:
        return rows.filled("chips")
    return np.asarray(rows.numbers("chips") == side.system.chips)


def _named(rows: Rows, *words: str) -> Mask:
    """Rows whose case has one of these words in its name."""
    known = rows.codes("case")[1]
    return rows.is_text("case", *(case for case in known if any(word in case for word in words)))
