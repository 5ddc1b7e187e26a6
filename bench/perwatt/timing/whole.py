"""Facts of a whole placement from those of its ranks: what failed anywhere failed, and the worst of each counts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from perwatt.backends.base import AS_ONE, Backend
from perwatt.results.schema import Status
from perwatt.workloads.base import Accuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class Fate:
    """How a step of one impl ended on one rank.

    Attributes:
        status, error: outcome of the impl so far.
        rank: on which.
        poisoned: whether nothing can be computed in its process any more.
        abandoned: whether it only left because another one had.
    """

    status: Status
    error: str
    rank: int
    poisoned: bool = False
    abandoned: bool = False


def settled(backend: Backend, own: Fate) -> Fate:
    """What a step's end on all ranks is for the impl: of several failures the first rank's that failed by itself."""
    left = own.error if own.status != Status.OK else ""
    fates = [Fate(**fate | {"status": Status(fate["status"])}) for fate in backend.together.settled(asdict(own), left)]
    failed = sorted((one for one in fates if one.status != Status.OK), key=lambda one: (one.abandoned, one.rank))
    if not failed:
        return own
    first, poisoned = failed[0], any(one.poisoned for one in fates)
    everywhere = len({(one.status, one.error) for one in fates}) == 1
    error = first.error if everywhere else f"rank {first.rank}: {first.error}"
    return replace(first, error=error, poisoned=poisoned)


def worst(backend: Backend, own: Accuracy) -> Accuracy:
    """The worst check of all ranks; where it failed on some only, it says on which."""
    checks = [Accuracy(**check) for check in backend.together.gather(asdict(own))]
    found = Accuracy.worst(checks)
    if found.ok or not any(check.ok for check in checks):
        return found
    return replace(found, detail=f"on rank {checks.index(found)}: {found.detail or 'the error exceeds its bound'}")


def largest(backend: Backend, own: float | None) -> float | None:
    """The largest of all ranks; None where none knows."""
    return max((value for value in backend.together.gather(own) if value is not None), default=None)


def summed(backend: Backend, own: Mapping[str, int]) -> dict[str, int]:
    """Counts, summed over ranks."""
    counts = backend.together.gather(dict(own))
    return {name: sum(count.get(name, 0) for count in counts) for name in own}


def health(backend: Backend, during: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Health of all devices as of one: as that of several processes, and the busiest neighbours of any."""
    seen = backend.together.gather(asdict(backend.health(during)))
    combined = {**AS_ONE, "chip_id": _together, "others": max}
    return {name: _combined(combined[name], [one[name] for one in seen]) for name in seen[0]}


def _together(chips: list[str]) -> str:
    """The one chip of all, or a hash of several."""
    several = sorted(set(chips))
    return several[0] if len(several) == 1 else hashlib.sha256(" ".join(several).encode()).hexdigest()[:16]


def _combined(combine: Any, values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    return combine(known) if known else None
