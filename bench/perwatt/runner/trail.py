"""How far each rank of a team has come, where the orchestrator can read it though nobody answers any more.

A rank counts the points at which ranks agree into a file of the team's scratch folder, and writes its Python stacks
beside it when it is asked to by a signal, which works whatever it hangs in.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import re
import signal
import struct
import time
from dataclasses import dataclass
from pathlib import Path

ASK = signal.SIGUSR1
DUMP_S = 1.0  # for ranks to write their stacks: a signal handler of the interpreter's, in C
_FORM = struct.Struct("=qqqd")
_FRAME = re.compile(r'File "(.+?)", line (\d+) in (.+)')  # of a faulthandler dump


class Trail:
    """A rank's own side.

    Args:
        folder: the team's.
        rank: whose it is.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._count = 0
        with open(_trail(folder, rank), "wb+") as file:
            file.truncate(_FORM.size)
            self._map = mmap.mmap(file.fileno(), _FORM.size)
        self._stacks = open(_stacks(folder, rank), "w")  # noqa: SIM115 - faulthandler keeps its descriptor
        faulthandler.register(ASK, self._stacks)
        self._write(False)

    def come(self) -> None:
        """At the next point of agreement; the others may not be there yet."""
        self._count += 1
        self._write(True)

    def go(self) -> None:
        """All were there."""
        self._write(False)

    def _write(self, waiting: bool) -> None:
        _FORM.pack_into(self._map, 0, os.getpid(), self._count, waiting, time.monotonic())


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Where a rank is.

    Attributes:
        count: points of agreement that it has come to.
        waiting: whether it waits there for others.
        since: ``time.monotonic`` when it came to the last one, or left it.
        alive: whether its process runs.
        frames: file, line and function of the innermost calls of each thread, the main thread's in the first place;
            none where it did not answer.
    """

    rank: int
    count: int
    waiting: bool
    since: float
    alive: bool
    frames: tuple[tuple[tuple[str, int, str], ...], ...] = ()


def steps(folder: Path, world: int) -> list[Step]:
    """Where ranks are, their stacks included. A rank that never began to count is not among them."""
    pids: dict[int, int] = {}
    for rank in range(world):
        if read := _read(folder, rank):
            pids[rank] = read[0]
    alive = {rank for rank, pid in pids.items() if _ask(pid)}
    time.sleep(DUMP_S if alive else 0.0)
    found = []
    for rank in pids:
        _, count, waiting, since = _read(folder, rank) or (0, 0, 0, 0.0)
        frames = _frames(_stacks(folder, rank)) if rank in alive else ()
        found.append(
            Step(rank=rank, count=count, waiting=bool(waiting), since=since, alive=rank in alive, frames=frames)
        )
    return found


def last_words(folder: Path, rank: int) -> Path:
    """Why a rank left a step, as long as the others have not heard of it."""
    return folder / f"rank-{rank}.last"


def _trail(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.trail"


def _stacks(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.stacks"


def _read(folder: Path, rank: int) -> tuple[int, int, int, float] | None:
    try:
        return _FORM.unpack(_trail(folder, rank).read_bytes())
    except (OSError, struct.error):
        return None


def _ask(pid: int) -> bool:
    try:
        os.kill(pid, ASK)
    except ProcessLookupError:
        return False
    return True


def _frames(path: Path) -> tuple[tuple[tuple[str, int, str], ...], ...]:
    """Stacks of the last dump, that of the thread which the signal came to, the main one, first."""
    threads: list[list[tuple[str, int, str]]] = []
    main: list[tuple[str, int, str]] = []
    for line in path.read_text(errors="replace").splitlines():
        if line.endswith("(most recent call first):"):
            threads.append([])
            main = threads[-1] if line.startswith(("Current thread", "Stack")) else main
        elif threads and (frame := _FRAME.search(line)):
            threads[-1].append((frame[1], int(frame[2]), frame[3]))
    ordered = [main, *(one for one in threads if one is not main)]
    return tuple(tuple(one) for one in ordered if one)
