"""Timed bodies as graphs of the device: recorded once for each operand set, played back ever after."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perwatt.backends.base import Backend

MOST_GRAPHS = 1024  # each takes milliseconds to record and keeps memory of its own
CAPTURING = "captur"  # in what CUDA and torch say of a call that no graph can hold


class Playback:
    """A body by slot, of which every slot's call is recorded when the first of them is wanted.

    Recording waits until then because it is a part of what a first call costs, as compiling is. A graph reads operands
    where they were when it was recorded and gives the same tensors every time.

    Args:
        backend: that records.
        body: one iteration on the operands of a slot.
        slots: number of operand sets.

    Raises:
        NotImplementedError: there are too many operand sets.
    """

    def __init__(self, backend: Backend, body: Callable[[int], Any], slots: int) -> None:
        if slots > MOST_GRAPHS:
            raise NotImplementedError(
                f"operands this small take {slots} sets to leave the cache, and a graph for each; "
                f"at most {MOST_GRAPHS} are recorded: use cache hot"
            )
        self._backend, self._body, self._slots = backend, body, slots
        self._played: list[Callable[[], Any]] = []

    def __call__(self, slot: int) -> Any:
        """Play a slot's graph.

        Raises:
            NotImplementedError: the body does what no graph can hold, such as waiting for the device.
        """
        if not self._played:
            self._played = [self._recorded(each) for each in range(self._slots)]
        return self._played[slot]()

    def _recorded(self, slot: int) -> Callable[[], Any]:
        body = self._body
        try:
            return self._backend.capture(lambda: body(slot))
        except RuntimeError as error:
            if CAPTURING not in str(error) or self._backend.is_out_of_memory(error):
                raise
            raise NotImplementedError(f"cannot be captured as a graph: {' '.join(str(error).split())}") from error
