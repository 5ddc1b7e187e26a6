"""Several processes that decide alike: what they agree on goes through a gloo group, whatever the device.

Every decision of a measurement is made of numbers that all ranks have, so that each of them does the same. Where one of
them leaves a step early, the others are told at the next point where they meet, and give it up too.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from perwatt.backends.base import Timing
from perwatt.backends.together import Abandoned, Together
from perwatt.runner.trail import Trail, last_words

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
NUMBERS = 4  # that fit beside a level
VALUE, SETTLED, NEXT = 0, 1, 2  # where a rank is: inside a step, at its end, through with the request
LEAD_S = 2e-4  # from the point where all have met to their common start: what a collective takes to reach all
PATIENCE_S = 10.0  # for a rank that failed, until it gives up on others that sit in a collective of the work
LOST_S = 20.0  # for one that has lost the others, until it ends by itself: they are ended by the launcher
GAVE_UP = 75  # exit code (sysexits: a temporary failure); the reason is in its last words


@dataclass(frozen=True, kw_only=True, slots=True)
class Met:
    """What one rank brings to a point of agreement."""

    level: int
    numbers: list[float]
    text: str


class Ranks(Together):
    """Agreement with the other ranks.

    Args:
        group: gloo's process group of all ranks, used by nobody else.
        rank, world: which of how many.
        folder: the team's, for what the orchestrator wants to know if one is lost.
        trail: of this rank, where it has begun one.

    Attributes:
        patience_s: how long a rank that failed waits for the others; for ever where they cannot wait for it.
        left: why this rank was through with its request early; empty where it was not.
    """

    def __init__(self, group: Any, rank: int, world: int, folder: Path, trail: Trail | None = None) -> None:
        self._group, self._world = group, world
        self._trail, self._last = trail or Trail(folder, rank), last_words(folder, rank)
        self.patience_s = math.inf
        self.left = ""

    def gather(self, value: T) -> list[T]:
        """See :class:`Together`."""
        return [json.loads(one.text) for one in self._meet(VALUE, text=json.dumps(value))]

    def settled(self, outcome: T, left: str = "") -> list[T]:
        """See :class:`Together`. A rank that failed gives up after a while, and with it the team."""
        if not left:
            return self._all_at(SETTLED, outcome, left)
        self._last.write_text(left)
        timer = threading.Timer(min(self.patience_s, threading.TIMEOUT_MAX), os._exit, [GAVE_UP])
        timer.daemon = True
        timer.start()
        try:
            found = self._all_at(SETTLED, outcome, left)
        finally:
            timer.cancel()
        self._last.unlink()
        return found

    def timed(self, batch: Callable[[], Timing]) -> Timing:
        """See :class:`Together`. Ranks of one host share the clock that they wait by."""
        start = max(one.numbers[0] for one in self._meet(VALUE, [perf_counter()])) + LEAD_S
        while perf_counter() < start:
            pass
        own = batch()
        numbers = [own.total_s, own.enqueue_s, _or_nan(own.wall_s), _or_nan(own.began)]
        return together([one.numbers for one in self._meet(VALUE, numbers)])

    def next(self, request: dict[str, Any] | None) -> dict[str, Any] | None:
        """What rank 0 was asked, on every rank; None where it was asked nothing more."""
        found: dict[str, Any] | None = self._all_at(NEXT, request, self.left)[0]
        self.left = ""
        return found

    def _all_at(self, level: int, value: T, left: str) -> list[T]:
        """Wait until every rank is there, while those that are not yet give up what they are at."""
        text = json.dumps([left, value])
        met = self._meet(level, text=text)
        while any(one.level < level for one in met):
            met = self._meet(level, text=text)
        return [json.loads(one.text)[1] for one in met]

    def _meet(self, level: int, numbers: Sequence[float] = (), text: str = "") -> list[Met]:
        """What every rank brings to the next point of agreement: four numbers at most, or a text.

        Raises:
            Abandoned: another rank is further.
        """
        import torch

        data = text.encode()
        padded = [*numbers, *[math.nan] * (NUMBERS - len(numbers))]
        self._trail.come()
        heads = self._collect(torch.tensor([level, len(data), *padded], dtype=torch.float64))
        bodies = [b""] * self._world
        if longest := int(max(head[1] for head in heads)):
            bodies = [bytes(body) for body in self._collect(torch.tensor(list(data.ljust(longest)), dtype=torch.uint8))]
        self._trail.go()
        met = [
            Met(level=int(head[0]), numbers=head[2:], text=body[: int(head[1])].decode())
            for head, body in zip(heads, bodies, strict=True)
        ]
        for rank, other in enumerate(met):
            if other.level > level:
                raise Abandoned(rank, json.loads(other.text)[0] or "it was done before the others")
        return met

    def _collect(self, own: Tensor) -> list[list[Any]]:
        import torch

        found = [torch.empty_like(own) for _ in range(self._world)]
        try:
            self._group.allgather([found], [own]).wait()
        except RuntimeError as error:  # a rank has died; the launcher sees which one, and ends the others
            time.sleep(LOST_S)
            self._last.write_text(f"lost the others: {' '.join(str(error).split())[:200]}")
            os._exit(GAVE_UP)
        return [one.tolist() for one in found]


def together(ranks: Sequence[Sequence[float]]) -> Timing:
    """The timing of a placement from those of its ranks: total, enqueue, wall and begin of each, NaN where unknown.

    From the first start to the last end by the clock that they share; where a batch is no single span, the longest.
    """
    totals, enqueued, walls, begun = (list(column) for column in zip(*ranks, strict=True))
    if any(math.isnan(began) for began in begun):
        return Timing(total_s=max(totals), enqueue_s=max(enqueued), ranks=tuple(totals))
    first = min(begun)
    wall = max(began + wall for began, wall in zip(begun, walls, strict=True)) - first
    return Timing(
        total_s=max(began + total for began, total in zip(begun, totals, strict=True)) - first,
        enqueue_s=max(enqueued), wall_s=None if math.isnan(wall) else wall, began=first, ranks=tuple(totals),
    )  # fmt: skip


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
