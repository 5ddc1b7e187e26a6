"""The program that is being run: its place in the grid, its shared memory, its barriers and partitions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fakes.gluon.errors import Hazard, Refused, where
from fakes.gluon.schedule import Partition, Schedule


class Program:
    """One program of a grid."""

    def __init__(self, place: tuple[int, ...], grid: tuple[int, ...], warps: int, rng: random.Random, lateness: float):
        from fakes.gluon.barriers import Barriers
        from fakes.gluon.memory import Memory

        self.place, self.grid, self.warps = place, grid, warps
        self.schedule = Schedule(rng, lateness, warps)
        self.memory = Memory()
        self.barriers = Barriers()
        self.schedule.report = self.barriers.report
        self.specialized = False

    @property
    def partition(self) -> Partition:
        """Whose turn it is."""
        return self.schedule.present

    def specialize(self, default: Any, workers: Any) -> Any:
        if self.specialized:
            raise Refused("warp_specialize within warp_specialize is not supported")
        self.specialized = True
        try:
            return self.schedule.specialize(default, workers)
        finally:
            self.specialized = False

    def finish(self) -> None:
        """The end of the program: nothing may still use its shared memory or registers."""
        self.schedule.turn()
        first = self.schedule.partitions[0]
        left_over(first)
        for event in self.schedule.events:
            if event.about.startswith("load"):
                raise Hazard(f"the program ends while a copy writes its shared memory: {event.about}")
        self.schedule.drain()
        self.barriers.finish()


def left_over(partition: Partition) -> None:
    """A partition ends: its products and its copies out of shared memory must have been waited for."""
    if partition.queue:
        raise Hazard(f"{partition.name} ends with products in flight: {partition.queue[0].about}")
    if partition.stores:
        raise Hazard(f"{partition.name} ends while copies read shared memory: {partition.stores[0].about}: store_wait")


_running: list[Program] = []


@contextmanager
def running(program: Program) -> Iterator[None]:
    _running.append(program)
    try:
        yield
    finally:
        _running.pop()


def program() -> Program:
    """The one that runs."""
    if not _running:
        raise Refused(f"called outside of a kernel, {where()}: is @gluon.jit missing?")
    return _running[-1]


def within() -> bool:
    """Whether one runs."""
    return bool(_running)
