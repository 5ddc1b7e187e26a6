"""How attention in Gluon is cut: a few candidates for each head dim, of which the fastest is measured."""

from __future__ import annotations

from dataclasses import dataclass

CONSUMERS = 2
ROWS = 64 * CONSUMERS


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """How the forward is cut and launched; all have two consumers of 64 queries.

    Attributes:
        columns: keys of a step.
        stages: steps of keys, and of values, in shared memory at once.
        turns: whether consumers take turns at products.
        resident: whether there is a program for each multiprocessor, which takes tile after tile, or one for each tile.
    """

    columns: int
    stages: int
    turns: bool = False
    resident: bool = True

    @property
    def name(self) -> str:
        """Such as ``128x128s2-turns``."""
        marks = ["turns"] * self.turns + ["each"] * (not self.resident)
        return "-".join([f"{ROWS}x{self.columns}s{self.stages}", *marks])


def forward(width: int) -> tuple[Tile, ...]:
    """Candidates for a head dim, up to a power of two."""
    if width > 128:
        return tuple(Tile(columns=64, stages=2, turns=turns, resident=resident) for turns, resident in _WAYS)
    found = tuple(Tile(columns=128, stages=2, turns=turns, resident=resident) for turns, resident in _WAYS)
    return *found, Tile(columns=128, stages=3, turns=True)


_WAYS = ((False, True), (True, True), (False, False), (True, False))
