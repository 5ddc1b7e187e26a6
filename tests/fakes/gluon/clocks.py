"""What happens before what: a vector clock of each partition (Mattern 1989), and when bytes were touched.

An access is in order where the clock of who comes later knows the time of who came before. Times are told by barriers:
an arrival hands its clock over, and a wait that goes on takes it. Copies into shared memory are written by the barrier
they signal, whose time is its number of complete phases. So a race is found whether or not this seed's order of turns
made anything of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

PARTITIONS = 8  # at most
ACTORS = 256  # partitions, and then barriers

Clock = list[int]


def fresh() -> Clock:
    return [0] * ACTORS


def joined(one: Clock, other: Clock) -> Clock:
    """What either of them knows."""
    return [max(pair) for pair in zip(one, other, strict=True)]


class Times:
    """Of each byte: who wrote it last and when, and when each partition read it last."""

    def __init__(self, size: int) -> None:
        self.writer = torch.zeros(size, dtype=torch.int64)
        self.written = torch.zeros(size, dtype=torch.int64)
        self.read = torch.zeros(PARTITIONS, size, dtype=torch.int64)


def unknown_write(writer: Tensor, written: Tensor, clock: Clock) -> tuple[int, int] | None:
    """Actor and time of a write that a clock does not know of."""
    late = written > torch.tensor(clock)[writer]
    if not late.any():
        return None
    return int(writer[late][0]), int(written[late][0])


def unknown_read(read: Tensor, clock: Clock) -> int | None:
    """A partition whose read a clock does not know of; ``read`` is [partitions, bytes ...]."""
    late = read.flatten(1) > torch.tensor(clock[:PARTITIONS])[:, None]
    found = late.any(1).nonzero()
    return int(found[0]) if len(found) else None
