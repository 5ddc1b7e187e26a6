"""Barriers in shared memory (mbarrier), as the instruction set has them.

A phase is complete when all arrivals and all expected bytes are there; a wait for parity P goes on once the phase of
that parity is the last complete one. `expect` arrives once, with bytes.
"""

from __future__ import annotations

from typing import Any

import triton.language as tl

from fakes.gluon.clocks import ACTORS, PARTITIONS, Clock, fresh, joined
from fakes.gluon.errors import Hazard, Refused, where
from fakes.gluon.machine import program
from fakes.gluon.memory import View
from fakes.gluon.tensors import truth

MOST_BYTES = 2**20 - 1  # a barrier can count
MOST_ARRIVALS = 2**20 - 1


class Barrier:
    """One barrier between its init and its invalidation; what its phases tell of times, so far and completely."""

    def __init__(self, name: str, count: int, actor: int) -> None:
        self.name, self.count, self.actor = name, count, actor
        self.phase, self.pending, self.bytes = 0, count, 0
        self.valid = True
        self.gathered, self.released = fresh(), fresh()

    def __str__(self) -> str:
        return (
            f"{self.name}: phase {self.phase}, {self.pending} of {self.count} arrivals and {self.bytes} bytes to come"
        )

    def arrive(self, count: int) -> None:
        if count > self.pending:
            raise Hazard(f"{count} arrivals, more than are to come, at {where()}: {self}")
        self.pending -= count
        self.gathered = joined(self.gathered, program().schedule.release())
        self._flip()

    def expect(self, count: int) -> None:
        self.bytes += count
        if self.bytes > MOST_BYTES:
            raise Hazard(f"more bytes are expected than a barrier can count: {self}")
        self.arrive(1)

    def land(self, count: int, phase: int, about: str, clock: Clock) -> None:
        """Bytes of a copy that was issued in a phase."""
        if not self.valid:
            raise Hazard(f"a copy signals a barrier that is not valid any more: {about}")
        if phase != self.phase:
            raise Hazard(f"bytes arrive after the phase they belong to: fewer were expected ({about}): {self}")
        self.bytes -= count
        self.gathered = joined(self.gathered, clock)
        if self.pending == 0 and self.bytes < 0:
            raise Hazard(f"{-self.bytes} bytes more than expected arrive ({about}): {self}")
        self._flip()

    def _flip(self) -> None:
        if self.pending == 0 and self.bytes == 0:
            self.phase += 1
            self.pending = self.count
            self.gathered[self.actor] = self.phase
            self.released = list(self.gathered)

    def complete(self, parity: int) -> bool:
        return (self.phase - 1) % 2 == parity


class Barriers:
    """Those of a program, by the bytes they lie in."""

    def __init__(self) -> None:
        self.at: dict[tuple[int, int], Barrier] = {}
        self.made = 0

    def make(self, at: tuple[int, int], count: int) -> None:
        if PARTITIONS + self.made == ACTORS:
            raise Refused(f"more barriers than {self.made} are not emulated")
        name = f"barrier {at[1]} of allocation {at[0]} (init at {where()})"
        self.at[at] = Barrier(name, count, PARTITIONS + self.made)
        self.made += 1

    def find(self, view: Any, what: str) -> Barrier:
        barrier = self.at.get(place(view, what))
        if barrier is None:
            raise Hazard(f"{what} a barrier that was never initialized: {view}")
        if not barrier.valid:
            raise Hazard(f"{what} a barrier after its invalidation: {barrier}")
        return barrier

    def report(self) -> list[str]:
        return [str(barrier) for barrier in self.at.values() if barrier.valid]

    def finish(self) -> None:
        for barrier in self.at.values():
            if barrier.valid and barrier.bytes:
                raise Hazard(f"the program ends while bytes are expected that never come: {barrier}")


def place(view: Any, what: str) -> tuple[int, int]:
    if not isinstance(view, View) or view.dtype != tl.int64 or view.numel != 1:
        raise Refused(f"{what} a barrier, which is one int64 of shared memory, found {view}")
    return view.allocation.number, int(view.data.storage_offset())


def init(mbarrier: Any, count: int) -> None:
    if not isinstance(count, int) or not 0 < count <= MOST_ARRIVALS:
        raise Refused(f"the count of a barrier is a constant from 1 to {MOST_ARRIVALS}, found {count}")
    program().schedule.turn()
    at = place(mbarrier, "init of")
    known = program().barriers.at.get(at)
    if known is not None and known.valid:
        raise Hazard(f"init of a barrier that is in use: {known}")
    mbarrier.give("becomes a barrier")
    program().barriers.make(at, count)


def invalidate(mbarrier: Any) -> None:
    program().schedule.turn()
    program().barriers.find(mbarrier, "invalidate").valid = False


def expect(mbarrier: Any, count: int, pred: Any) -> None:
    program().schedule.turn()
    if not isinstance(count, int) or count < 0:
        raise Refused(f"expected bytes are a constant, found {count}")
    if truth(pred):
        program().barriers.find(mbarrier, "expect on").expect(count)


def arrive(mbarrier: Any, count: int, pred: Any) -> None:
    program().schedule.turn()
    if not isinstance(count, int) or count < 1:
        raise Refused(f"a count of arrivals is a constant of 1 at least, found {count}")
    if truth(pred):
        program().barriers.find(mbarrier, "arrive at").arrive(count)


def wait(mbarrier: Any, phase: Any, pred: Any = True, deps: Any = ()) -> None:
    if not truth(pred):
        return
    parity = int(phase)
    if parity not in (0, 1):
        raise Hazard(f"wait takes a parity of 0 or 1, found {parity}")
    barrier = program().barriers.find(mbarrier, "wait for")

    def over() -> bool:
        if not barrier.valid:
            raise Hazard(f"a barrier is invalidated while a partition waits for it: {barrier}")
        return barrier.complete(parity)

    program().schedule.wait(over, lambda: f"waits for parity {parity} of {barrier}")
    partition = program().partition
    partition.clock = joined(partition.clock, barrier.released)
