"""Partitions of a program in turns, by a seed: one runs at a time, and hands the baton over where order is free.

What is asynchronous (copies, products) is an event, which happens between turns: as soon or as late as the seed and
``lateness`` say, and at the latest when no partition can go on without it.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from fakes.gluon.clocks import PARTITIONS, Clock, fresh, joined
from fakes.gluon.errors import Abandoned, Deadlock, Refused, where

PATIENCE = 300.0  # seconds, of a thread that waits for its turn: only a fault of the emulator takes that long


@dataclass(eq=False)
class Event:
    """Something on its way; ``ready`` says whether it may happen yet."""

    about: str
    happen: Callable[[], None]
    ready: Callable[[], bool] = lambda: True


@dataclass(eq=False)
class Partition:
    """Warps that run one function.

    Attributes:
        number: 0 is the default partition.
        warps: that run it.
        weight: how often it gets its turn, against others.
        queue: its products in flight, oldest first.
        stores: its copies from shared memory that were not waited for, oldest first.
        clock: what it knows of the times of all.
    """

    number: int
    name: str
    warps: int
    weight: float
    done: bool = False
    blocked: Callable[[], bool] | None = None
    reason: Callable[[], str] = lambda: ""
    queue: list[Any] = field(default_factory=list)
    stores: list[Any] = field(default_factory=list)
    clock: Clock = field(default_factory=fresh)
    baton: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def state(self) -> str:
        if self.done:
            return f"{self.name}: done"
        return f"{self.name}: " + (self.reason() if self.blocked else "can go on")


class Schedule:
    """Whose turn it is."""

    def __init__(self, rng: random.Random, lateness: float, warps: int) -> None:
        self.rng = rng
        self.lateness = lateness
        self.events: list[Event] = []
        self.partitions = [self._partition("default", warps)]
        self.present = self.partitions[0]
        self.failure: BaseException | None = None
        self.report: Callable[[], list[str]] = list

    def _partition(self, name: str, warps: int) -> Partition:
        number = len(self.partitions) if hasattr(self, "partitions") else 0
        if number >= PARTITIONS:
            raise Refused(f"more partitions than {PARTITIONS} are not emulated")
        partition = Partition(number, name, warps, self.rng.choice([1.0, 1.0, 0.1, 0.01]))
        partition.clock[number] = 1
        return partition

    def name(self, number: int) -> str:
        return next((one.name for one in self.partitions if one.number == number), f"partition {number}, which ended")

    def release(self) -> Clock:
        """What the present partition hands over, after which its time goes on."""
        told = list(self.present.clock)
        self.present.clock[self.present.number] += 1
        return told

    def add(self, event: Event) -> None:
        self.events.append(event)

    def turn(self) -> None:
        """Let events happen and others run, or not."""
        while self.events and self.rng.random() >= self.lateness and self._happen():
            pass
        if len(self.partitions) > 1:
            self._hand_over()

    def wait(self, until: Callable[[], bool], reason: Callable[[], str]) -> None:
        """Go on once something holds."""
        self.turn()
        line = where()
        while not until():
            self.present.blocked, self.present.reason = until, lambda: f"{reason()} at {line}"
            self._hand_over()
        self.present.blocked = None

    def _happen(self) -> bool:
        """One of the events that can; whether there was one."""
        ready = [event for event in self.events if event.ready()]
        if not ready:
            return False
        event = self.rng.choice(ready)
        self.events.remove(event)
        event.happen()
        return True

    def drain(self) -> None:
        """All events, in any order."""
        while self._happen():
            pass

    def _hand_over(self) -> None:
        """To a partition that can run, perhaps the same one."""
        me = self.present
        following = self._next()
        if following is me:
            return
        self.present = following
        following.baton.release()
        if not me.done:
            self._await(me)

    def _await(self, partition: Partition) -> None:
        if not partition.baton.acquire(timeout=PATIENCE):
            raise Abandoned
        if self.failure is not None:
            raise Abandoned

    def _next(self) -> Partition:
        while True:
            able = [one for one in self.partitions if not one.done and (one.blocked is None or one.blocked())]
            if able:
                return self.rng.choices(able, [one.weight for one in able])[0]
            if not self._happen():
                lines = [one.state() for one in self.partitions] + self.report()
                raise Deadlock("no partition can go on, and nothing is on its way\n  " + "\n  ".join(lines))

    def specialize(self, default: Callable[[], Any], workers: list[tuple[str, int, Callable[[], Any]]]) -> Any:
        """Run partitions beside each other; the result is that of the default partition."""
        first = self.partitions[0]
        threads = []
        told = self.release()
        for name, warps, run in workers:
            partition = self._partition(f"{name} ({len(self.partitions)})", warps)
            partition.clock = joined(partition.clock, told)
            partition.clock[partition.number] += 1
            self.partitions.append(partition)
            threads.append(threading.Thread(target=self._work, args=(partition, run), daemon=True))
        for thread in threads:
            thread.start()
        try:
            result = default()
            self.wait(lambda: all(one.done for one in self.partitions[1:]), lambda: "waits for the other partitions")
        except BaseException as error:
            self._fail(error)
            raise (self.failure or error) from None
        finally:
            for thread in threads:
                thread.join(PATIENCE)
            for one in self.partitions[1:]:
                first.clock = joined(first.clock, one.clock)
            del self.partitions[1:]
            self.present = first
        return result

    @torch.no_grad()  # which is a thread's own, and a launch's in an operation that has derivatives
    def _work(self, partition: Partition, run: Callable[[], Any]) -> None:
        try:
            self._await(partition)
            run()
            partition.done = True
            self._hand_over()
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Remember the first failure and wake everyone, who then end."""
        if not isinstance(error, Abandoned) and self.failure is None:
            self.failure = error
            for one in self.partitions:
                one.baton.release()
