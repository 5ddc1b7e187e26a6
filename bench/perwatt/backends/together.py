"""What the ranks of a placement agree on. One process by itself agrees with itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from perwatt.backends.base import Timing

T = TypeVar("T")


class Together:
    """One process by itself. :class:`perwatt.runner.ranks.Ranks` is the same for several.

    All ranks call these methods in the same order: each is a point that no rank passes before the others come to it.
    """

    def gather(self, value: T) -> list[T]:
        """The value of every rank, by rank, the same list on all of them. Values are plain: JSON can hold them."""
        return [value]

    def settled(self, outcome: T, left: str = "") -> list[T]:
        """The same at the end of a step; waits for ranks that are still in it, and makes them give it up.

        Those come to another point first, where they get :class:`Abandoned`.

        Args:
            outcome: of this rank.
            left: why it left the step early; empty where it did not.
        """
        return [outcome]

    def timed(self, batch: Callable[[], Timing]) -> Timing:
        """One batch of every rank, begun at the same moment: from the first start to the last end."""
        return batch()


class Abandoned(RuntimeError):
    """Another rank has left the step that this one is in.

    Attributes:
        rank: which.
    """

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(f"rank {rank} left: {reason}")
        self.rank = rank
