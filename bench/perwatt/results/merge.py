"""Parts into cells: the processes and rounds of one case and impl, pooled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any, TypeVar

from perwatt.backends.base import AS_ONE
from perwatt.results.samples import samples_digest
from perwatt.results.schema import Status
from perwatt.runner.journal import Event
from perwatt.runner.part import Part
from perwatt.timing import statistics
from perwatt.timing.statistics import Estimate

T = TypeVar("T")
Cells = dict[str, Any]

STRAGGLES = 0.05  # by how much a rank's own time has to be above the median of the others
MOSTLY = 0.75  # in which share of the samples
GUARDS = ("compilations", "graph_breaks", "cpu_fallbacks")


def first(values: Iterable[T | None]) -> T | None:
    """The first that is known."""
    return next((value for value in values if value is not None), None)


def series(part: Part) -> list[float]:
    """The samples whose median is reported: those of the pass, less those of the pass that is taken off."""
    return [a - b for a, b in zip(part.samples, part.minus, strict=True)] if part.minus else part.samples


def timing(parts: Sequence[Part]) -> Cells:
    """Time and its interval, over all processes; rounds of a process count as one."""
    timed = [part for part in parts if part.samples]
    groups: dict[int, list[float]] = {}
    for part in timed:
        groups.setdefault(part.process, []).extend(series(part))
    everything = [value for group in groups.values() for value in group]
    # The difference of two noisy times may fall below zero, where there are no logarithms to pool processes by.
    pooled = statistics.pooled(list(groups.values())) if min(everything) > 0 else _differences(timed)
    summary = statistics.summary(everything)
    return {
        "time_s": pooled.median,
        "time_s_lo": _finite(pooled.lo),
        "time_s_hi": _finite(pooled.hi),
        "time_s_mean": summary.mean,
        "time_s_stdev": summary.stdev,
        "time_s_p10": summary.p10,
        "time_s_p90": summary.p90,
        "noise_floor": _noise_floor(timed),
        "samples": pooled.n,
        "samples_digest": samples_digest(parts),
        "n_eff": pooled.n_eff,
        "processes": len(groups),
        "blocks": sum(len(set(part.blocks)) for part in timed),
        "iters_per_sample": timed[0].iters_per_sample,
        "warmup_s": _median(part.warmup_s for part in timed),
        "enqueue_s": _median(part.enqueue_s for part in timed),
        "busy_s": _median(part.busy_s for part in timed),
        "stop_reason": "; ".join(dict.fromkeys(part.stop_reason for part in timed if part.stop_reason)) or None,
        "timing_method": timed[0].timing_method,
        **_slowest(timed),
    }


def _by_rank(parts: Sequence[Part]) -> list[list[float]]:
    """Seconds of each rank in all samples; none where one process worked by itself."""
    world = min((len(part.ranks) for part in parts), default=0)
    return [[value for part in parts for value in part.ranks[rank]] for rank in range(world)]


def _slowest(parts: Sequence[Part]) -> Cells:
    """The rank that took longest by itself, and by how much."""
    middles = [median(times) for times in _by_rank(parts)]
    if len(middles) < 2:
        return {}
    rank = middles.index(max(middles))
    others = median(middles[:rank] + middles[rank + 1 :])
    return {"slowest_rank": rank, "rank_spread": middles[rank] / others - 1.0 if others > 0 else None}


def straggles(parts: Sequence[Part]) -> bool:
    """Whether one rank is slower than the others by :data:`STRAGGLES`, and in most samples so."""
    timed = [part for part in parts if part.samples]
    rank, times = _slowest(timed).get("slowest_rank"), _by_rank(timed)
    if rank is None:
        return False
    own, others = times[rank], [median(of) for of in zip(*(times[:rank] + times[rank + 1 :]), strict=True)]
    slow = sum(mine > (1.0 + STRAGGLES) * usual for mine, usual in zip(own, others, strict=True))
    return bool(slow >= MOSTLY * len(own))


def _differences(parts: Sequence[Part]) -> Estimate:
    """The difference of two passes over all pairs, whichever process they come from."""
    own = [value for part in parts for value in part.samples]
    return statistics.difference(own, [value for part in parts for value in part.minus] or [0.0] * len(own))


def _noise_floor(parts: Sequence[Part]) -> float | None:
    """By how much the case may seem to change while nothing does: the far end of the interval of itself over itself."""
    own = [value for part in parts if part.twin for value in series(part)]
    twin = [value for part in parts for value in part.twin]
    if not twin:
        return None
    ratio = statistics.ratio(own, twin, paired=True)
    return _finite(max(abs(ratio.lo - 1.0), abs(ratio.hi - 1.0)))


def gate(parts: Sequence[Part]) -> Cells:
    """The error that came nearest to, or went furthest over, its bound."""
    known = [part for part in parts if part.rel_err_bound is not None]
    if not known:
        return {}
    failed = [part for part in known if part.status == Status.INACCURATE]
    worst = max(failed or known, key=lambda part: (part.rel_err or 0.0) / (part.rel_err_bound or 1.0))
    return {"rel_err": worst.rel_err, "rel_err_bound": worst.rel_err_bound}


def compiling(parts: Sequence[Part]) -> Cells:
    """Compile times; later rounds of a process found the code compiled."""
    fresh = [part for part in parts if part.round == 0]
    return {name: _median(getattr(part, name) for part in fresh) for name in ("compile_cold_s", "compile_warm_s")}


def health(parts: Sequence[Part], window: Event | None = None) -> Cells:
    """State of the device over all samples, and what happened inside them, or in the energy window, that may not."""
    faults = (window or {}).get("faults", {})
    cells = Cells(peak_bytes=max((part.peak_bytes for part in parts if part.peak_bytes is not None), default=None))
    for name, combine in AS_ONE.items():
        seen = [value for found in (*(part.health for part in parts), faults) if (value := found.get(name)) is not None]
        cells[name] = combine(seen) if seen else None
    for name in GUARDS:
        counted = [part.guards[name] for part in parts if name in part.guards]
        cells[name] = sum(counted) if counted else None
    return cells


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
