"""What is missing to judge a claim by measurement: the rows, and the command that would produce them."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from perwatt.analysis.claims import costs
from perwatt.analysis.claims.claim import Cases, Claim, Side, a_scope
from perwatt.analysis.claims.judging import Span
from perwatt.analysis.claims.quantities import EIGHT_BIT
from perwatt.analysis.claims.sieves import LARGE, PLACEMENTS, format_of
from perwatt.analysis.levels import FEW
from perwatt.hardware import chips
from perwatt.hardware.sheet import KINDS

DEVICES = {"AWS": "neuron", "NVIDIA": "cuda"}
"""Kinds of device that perwatt measures, by vendor."""
METER = "--energy all --power-trace meter.csv --meter-class 1 --power-scope node"
EIGHT = ("fp8", "mxfp8")


def cases(claim: Claim, side: Side) -> Cases:
    """The cases that test a side of a claim: its own, else those of its metric, in 8 bits where that is its format."""
    if claim.tested_by:
        return claim.tested_by
    quantity = claim.quantity
    if quantity.workload == "train_step" and format_of(claim, side) in EIGHT:
        return Cases(suite="claims", only=EIGHT_BIT)
    return Cases(suite=quantity.suite, only=quantity.only)


def rows(claim: Claim, sides: Sequence[Side] = ()) -> tuple[str, ...]:
    """Rows that would settle a claim, a line for each chip and case, with what an hour of such a machine costs.

    Args:
        claim: to be settled.
        sides: that lack rows; both where none is given.
    """
    made = []
    for side in sides or claim.sides:
        chosen, wanted = cases(claim, side), format_of(claim, side)
        if _of_no_suite(claim):
            made.append(f"{side.chip}: {claim.quantity.row} of a case that names {claim.model}")
            continue
        found = [case for case in _cases(chosen.suite, chosen.only) if _computes(side, wanted, case.compute)]
        if not found:
            made.append(f"{side.chip}: rows in {wanted}, in which no case of {chosen.suite} computes")
        made += [_row(claim, side, chosen.suite, case) for case in found]
    return tuple(dict.fromkeys(made))


def _of_no_suite(claim: Claim) -> bool:
    """Whether the claim names a model and no cases, so that those of its metric are not of it."""
    return bool(claim.model) and claim.tested_by is None


def _row(claim: Claim, side: Side, suite: str, case: _Case) -> str:
    quantity, placement = claim.quantity, PLACEMENTS.get(claim.scope, LARGE)[-1]
    count = f" of {side.system.chips} chips" if side.system and claim.scope != "chip" else ""
    runs = f"{FEW} runs, energy by a meter or counter" if quantity.energy else f"{FEW} processes"
    visits = FEW * (FEW + 1) if quantity.energy else FEW  # a run has as many processes, and a window for its energy
    return (
        f"{side.chip}: {quantity.row} of {case.name!r} in suite {suite} (match_key {case.match_key}), placement "
        f"{placement}{count}, {runs}; {costs.at_most(claim, side, visits * case.timeout_s)}"
    )


def better_case(claim: Claim) -> tuple[str, ...]:
    """What would settle a claim of ``up_to`` whose cases all fall short: no more of the same."""
    return (f"a case that reaches {claim.figure}; one that falls short decides nothing",)


def narrower(span: Span) -> tuple[str, ...]:
    """What would settle a claim whose figure the interval does not tell from it."""
    if span.lo is None or span.hi is None:
        return (f"an interval: {FEW} runs on each side",)
    return (f"a narrower interval than {span.lo:.2f} to {span.hi:.2f}: more runs, and {FEW} chips on each side",)


def command(claim: Claim) -> str | None:
    """The command that would produce the rows, a line for each kind of machine; None where there is no such."""
    if PLACEMENTS.get(claim.scope, LARGE) == LARGE or _of_no_suite(claim):
        return None
    kinds = {DEVICES.get(chips.load(side.chip).vendor) for side in claim.sides if side.chip}
    if None in kinds or not kinds:
        return None
    placement = [] if claim.scope == "chip" else ["--placement", PLACEMENTS[claim.scope][-1]]
    after = [*placement, *_energy(claim, kinds)]
    return "\n".join(dict.fromkeys(_line(claim, side, after) for side in claim.sides if side.chip))


def _line(claim: Claim, side: Side, after: Sequence[str]) -> str:
    """The command for the machine of one side."""
    chosen = cases(claim, side)
    only = [word for name in chosen.only for word in ("--only", name)]
    return shlex.join([
        "perwatt", "run", chosen.suite, *only, "--device", DEVICES[chips.load(side.chip).vendor], *after,
    ])  # fmt: skip


def _energy(claim: Claim, kinds: Collection[str | None]) -> list[str]:
    """GPUs count their own energy; a Trainium takes a meter, and what is compared with it too."""
    if not claim.quantity.energy:
        return []
    return METER.split() if "neuron" in kinds else ["--energy", "all"]


def too_large(claim: Claim) -> tuple[str, ...]:
    """Why no command produces the rows, if none does."""
    if PLACEMENTS.get(claim.scope, LARGE) == LARGE:
        return (f"perwatt run takes one host, and {a_scope(claim.scope)} is more than that",)
    if _of_no_suite(claim):
        return (f"no shipped suite has a case that names {claim.model}",)
    if command(claim) is None:
        return ("perwatt measures AWS and NVIDIA chips",)
    return ()


def _computes(side: Side, wanted: str, compute: str) -> bool:
    """Whether a case is in the format that is wanted, and in one of those that the chip has."""
    if not wanted:
        return True
    return compute in KINDS.get(wanted, (wanted,)) and chips.load(side.chip).peak(compute) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Case:
    """One work among the cases of a suite, the format of its products, and how long its rows may take a process."""

    name: str
    match_key: str
    compute: str
    timeout_s: float


@cache
def _cases(suite: str, only: tuple[str, ...]) -> tuple[_Case, ...]:
    """Each different work among the cases of these names."""
    from perwatt.spec import suite as suites  # pydantic and all workloads come with it

    found: dict[str, _Case] = {}
    for case in suites.load(suite).cases:
        if any(fnmatchcase(case.name, pattern) for pattern in only):
            name, compute, key = case.name.partition(" recompute=")[0], case.precision.compute, case.match_key
            before = found[key].timeout_s if key in found else 0.0  # whatever is timed out is tried without its culprit
            limit = before + len(case.impls) * case.measure.timeout_s
            found[key] = _Case(name=name, match_key=key, compute=compute, timeout_s=limit)
    return tuple(found.values())
