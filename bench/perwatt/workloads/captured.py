"""Timed bodies as graphs of the device: calls in a row that are recorded once and played back ever after."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perwatt.backends.base import Backend

GRAPH_S = 1e-3  # work of a graph, beside which the microseconds between two graphs do not show
MOST_CALLS = 1024  # in one graph: recording takes time, and every operand set keeps its result
AFTERWARDS = "previous error during capture"
CAPTURING = "captur"  # in what CUDA and torch say of a call that no graph can hold


class Playback:
    """A body on all operand sets in turn, turn after turn until it takes :data:`GRAPH_S`, as one graph.

    It is recorded when it is first wanted, because that is a part of what a first call costs, as compiling is. A graph
    reads operands where they were when it was recorded and gives the same tensors every time.

    Args:
        backend: that records.
        body: one iteration on the operands of a slot.
        slots: number of operand sets.
        recorded: is told how many iterations the graph has, once that is known.

    Attributes:
        results: of the last iteration on each operand set.

    Raises:
        NotImplementedError: there are too many operand sets.
    """

    def __init__(
        self, backend: Backend, body: Callable[[int], Any], slots: int, recorded: Callable[[int], None]
    ) -> None:
        if slots > MOST_CALLS:
            raise NotImplementedError(
                f"operands this small take {slots} sets to leave the cache, and a graph holds at most {MOST_CALLS} "
                "calls: use cache hot"
            )
        self.results: list[Any] = []
        self._backend, self._body, self._slots, self._told = backend, body, slots, recorded
        self._play: Callable[[], Any] | None = None

    def __call__(self, slot: int) -> Any:
        """Play the graph; gives the result on the first operand set.

        Raises:
            NotImplementedError: the body does what no graph can hold, such as waiting for the device.
        """
        if self._play is None:
            turns = self._turns()
            self._play = self._recorded(turns)
            self._told(turns * self._slots)
        return self._play()

    def _turns(self) -> int:
        """Whole turns that make the graph long enough."""
        ring: list[Any] = [None] * self._slots
        self._backend.time(self._body, self._slots, 0, ring)  # what is compiled or loaded here is not in the next
        turn_s = self._backend.time(self._body, self._slots, 0, ring).total_s
        return max(1, min(math.ceil(GRAPH_S / max(turn_s, 1e-9)), MOST_CALLS // self._slots))

    def _calls(self, turns: int) -> Any:
        """The body in turn on all operand sets, whose results stay where they are until the set's next turn."""
        self.results = [None] * self._slots
        for _ in range(turns):
            for slot in range(self._slots):
                self.results[slot] = None
                self.results[slot] = self._body(slot)
        return self.results[0]

    def _recorded(self, turns: int) -> Callable[[], Any]:
        try:
            return self._backend.capture(lambda: self._calls(turns))
        except RuntimeError as error:
            first = _first(error)
            if CAPTURING not in str(error) or self._backend.is_out_of_memory(first):
                raise first from None
            raise NotImplementedError(f"cannot be captured as a graph: {' '.join(str(first).split())}") from error


def _first(error: Exception) -> Exception:
    """What went wrong in a capture: its end fails for that too, and says only that something did."""
    before = error.__context__
    return before if AFTERWARDS in str(error) and isinstance(before, Exception) else error
