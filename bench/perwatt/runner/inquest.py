"""Why a team was lost: which rank died, or which one the others waited for."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perwatt.results.schema import Status
from perwatt.runner import trail
from perwatt.runner.team import FAILED
from perwatt.runner.trail import Step

WAITED_S = 2.0  # for which others have to have waited before a rank counts as hanging: slower ones are not
NEAR = 4  # innermost calls in which a collective shows: it waits some calls below its own name
COLLECTIVES = "/torch/distributed/"
WAITS = {"synchronize", "wait"}  # of a device, for what a collective has to give it


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Status and reason for the row of the impl that the team was busy with."""

    status: Status
    reason: str


def death(folder: Path, *, memory: bool, words: str, frame: str) -> Finding | None:
    """Which rank died, by what the launcher left; None where it left nothing, as it died itself.

    Args:
        folder: the team's.
        memory: whether the kernel has killed for want of memory meanwhile.
        words: the last line that was logged.
        frame: the innermost call of a crash dump in the log.
    """
    try:
        told = json.loads((folder / FAILED).read_text())
        rank, code = int(told["rank"]), int(told["exitcode"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if last := _last(folder, rank):
        return Finding(status=Status.RANK_FAILED, reason=f"rank {rank} gave up: {last}")
    if code == -signal.SIGKILL and memory:
        return Finding(status=Status.OOM, reason=f"the kernel killed rank {rank} because memory ran out")
    if code < 0:
        by = signal.Signals(-code).name
        return Finding(
            status=Status.RANK_FAILED, reason=f"rank {rank} killed by {by}" + (f" in {frame}" if frame else "")
        )
    return Finding(
        status=Status.RANK_FAILED, reason=f"rank {rank} exited with code {code}" + (f": {words}" if words else "")
    )


def hanging(folder: Path, world: int, late: str) -> Finding:
    """Which rank a team waits for that took too long, as ``late`` says; the team still stands."""
    for rank in range(world):
        if last := _last(folder, rank):
            return Finding(status=Status.RANK_FAILED, reason=f"rank {rank} failed and the others hang: {last}; {late}")
    return judge(trail.steps(folder, world), world, time.monotonic(), late)


def judge(steps: Sequence[Step], world: int, now: float, late: str) -> Finding:
    """The rank that the others wait for: a dead one, the one behind, or the one that is in no collective.

    Args:
        steps: where ranks are.
        world: number of ranks.
        now: by the clock of the steps.
        late: what is to be said besides.
    """
    found = {step.rank: step for step in steps}
    if not found:
        return Finding(status=Status.RANK_FAILED, reason=f"no rank came up; {late}")
    for rank in range(world):
        if rank not in found:
            return Finding(status=Status.RANK_FAILED, reason=f"rank {rank} did not come up; {late}")
        if not found[rank].alive:
            return Finding(status=Status.RANK_FAILED, reason=f"rank {rank} is gone; {late}")
    waiting = [step for step in steps if _waits(step)]
    at_work = [step for step in steps if not _waits(step)]
    waited_s = min((now - step.since for step in waiting), default=0.0)
    if waited_s < WAITED_S:  # nobody waits, or not for long: all of them are slow
        return Finding(status=Status.TIMEOUT, reason=late)
    if at_work:
        behind = min(at_work, key=lambda step: (step.count, step.rank))
        return Finding(
            status=Status.RANK_FAILED,
            reason=f"rank {behind.rank} hangs{_where(behind)}, {_those(waiting)} for {waited_s:.0f} s; {late}",
        )
    first = min(waiting, key=lambda step: (step.count, step.rank))
    places = ", ".join(f"rank {step.rank}{_where(step)}" for step in steps)
    return Finding(
        status=Status.RANK_FAILED, reason=f"rank {first.rank} hangs, as all wait for each other: {places}; {late}"
    )


def _last(folder: Path, rank: int) -> str:
    path = trail.last_words(folder, rank)
    return path.read_text() if path.exists() else ""


def _waits(step: Step) -> bool:
    """Whether a rank is at a point of agreement, or in a collective of the work."""
    return step.waiting or any(_collective(frames) for frames in step.frames)


def _collective(frames: Sequence[tuple[str, int, str]]) -> bool:
    return any(COLLECTIVES in file for file, _, _ in frames[:NEAR]) or (bool(frames) and frames[0][2] in WAITS)


def _where(step: Step) -> str:
    """Where the main thread is: its innermost call."""
    if not step.frames:
        return ""
    file, line, function = step.frames[0][0]
    return f" in {function} ({'/'.join(file.split('/')[-2:])}:{line})"


def _those(waiting: Sequence[Step]) -> str:
    ranks = [str(step.rank) for step in waiting]
    return f"rank {ranks[0]} waits" if len(ranks) == 1 else f"ranks {', '.join(ranks)} wait"
