"""The best of several implementations: chosen on one half of the blocks, timed on the other (method 8).

The fastest of several equal ones is the luckiest, and its time is too short: of five that scatter by 1 %, by more than
1 %. The other half of its blocks knows nothing of that luck.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perwatt.results.schema import Row, Status
from perwatt.timing.statistics import Estimate, pooled

LEAST = 2  # samples of a half, in every process, below which nothing is chosen or timed by it
CHOOSING, TIMING = 0, 1  # blocks by the last bit of their number


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Samples of one implementation in one process.

    Attributes:
        process: number of the process restart.
        blocks: block of each sample; blocks of all implementations are interleaved.
        seconds: of one iteration.
    """

    process: int
    blocks: Sequence[int]
    seconds: Sequence[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The choice.

    Attributes:
        impl: name of the implementation.
        time_s: its time on the half that had no part in the choice.
        among: names of all that were chosen from.
    """

    impl: str
    time_s: Estimate
    among: tuple[str, ...]


def best(candidates: Mapping[str, Sequence[Series]]) -> Best | None:
    """The implementation with the shortest median on one half; None where fewer than two have both halves."""
    chosen, timed = ({name: _half(series, half) for name, series in candidates.items()} for half in (CHOOSING, TIMING))
    able = sorted(name for name in candidates if chosen[name] and timed[name])
    if len(able) < 2:
        return None
    impl = min(able, key=lambda name: pooled(chosen[name]).median)
    return Best(impl=impl, time_s=pooled(timed[impl]), among=tuple(able))


def _half(series: Iterable[Series], half: int) -> list[list[float]]:
    """Samples of every other block by process; empty where a process has too few."""
    found: dict[int, list[float]] = {}
    for one in series:
        own = found.setdefault(one.process, [])
        own += [seconds for block, seconds in zip(one.blocks, one.seconds, strict=True) if block % 2 == half]
    return list(found.values()) if all(len(own) >= LEAST for own in found.values()) else []


def of_run(rows: Iterable[Row], lines: Iterable[Mapping[str, Any]]) -> dict[str, Best]:
    """The best implementation of every case of a run that has several which passed the gate.

    Args:
        rows: of the run.
        lines: of its ``samples.jsonl``.

    Returns:
        The choices by ``samples_digest`` of the row that was chosen.
    """
    passed = {row.samples_digest for row in rows if row.status == Status.OK}
    cases: dict[str, dict[str, list[Series]]] = {}
    digests: dict[tuple[str, str], str] = {}
    for line in lines:
        if line["samples_digest"] in passed:
            digests[line["case"], line["impl"]] = line["samples_digest"]
            cases.setdefault(line["case"], {}).setdefault(line["impl"], []).append(_series(line))
    found = {case: best(candidates) for case, candidates in cases.items()}
    return {digests[case, choice.impl]: choice for case, choice in found.items() if choice}


def _series(line: Mapping[str, Any]) -> Series:
    """The samples whose median is reported: where two passes were timed in pairs, their differences."""
    own = line["samples"]
    seconds = [a - b for a, b in zip(own, line["minus"], strict=True)] if line["minus"] else own
    return Series(process=line["process"], blocks=line["blocks"], seconds=seconds)
