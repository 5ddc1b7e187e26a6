"""The timed body of one session: batches of iterations, their size, and the sides that some methods time in pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from perwatt.backends.base import Backend, Timing
from perwatt.runner.part import Part
from perwatt.timing.statistics import paired_difference
from perwatt.workloads.base import Session

MOST_ITERATIONS = 1_000_000
AGREE = 0.01  # by how much the wall clock may differ from a clock of the device (docs/method.md, Time)


class Body:
    """Times batches of a session.

    Args:
        session: what is run.
        backend: whose clock is used.
        twin: the same case opened once more, timed in pairs with the first (``--aa``).

    Attributes:
        wall: for each series of the part, the same times by the wall clock; empty where the device has no other.
    """

    def __init__(self, session: Session, backend: Backend, twin: Session | None = None) -> None:
        self.wall: dict[str, list[float]] = {}
        self._calls = 1
        self._session, self._twin, self._backend = session, twin, backend
        self._slot = 0
        self._ring: list[Any] = [None] * session.slots
        self._sides: dict[str, Callable[..., Timing]] = {"samples": self.batch}
        self._timed = {"samples": session}
        for name, other in (("", session), ("twin", twin)):
            if other is not None and other is not session:
                self._sides[name], self._timed[name] = partial(self.batch, session=other), other
            if other is not None and other.part is not None:
                self._sides[f"{name}minus"] = partial(self.batch, session=other, run=other.part)
                self._timed[f"{name}minus"] = other

    @property
    def iterations(self) -> int:
        """Iterations in one batch."""
        return self._calls * self._session.each

    @property
    def _most(self) -> int:
        """Calls of the largest batch."""
        return max(1, MOST_ITERATIONS // self._session.each)

    def calibrate(self, iteration_s: float, sample_s: float) -> None:
        """Choose how many iterations fill a sample of ``sample_s`` seconds; never fewer than before."""
        wanted = math.ceil(sample_s / max(iteration_s * self._session.each, 1e-9))
        self._calls = min(max(self._calls, wanted), self._most)

    def refresh(self) -> None:
        """One call of every side, so that what has still to be compiled or loaded is not in a sample."""
        for side in self._sides.values():
            side(calls=1)
            side()

    @property
    def full(self) -> bool:
        """Whether a batch can hold no more."""
        return self._calls == self._most

    def submit(self) -> None:
        """Hand over one batch of the timed body, without a clock and without waiting for it."""
        first, self._slot = self._slot, (self._slot + self._calls) % self._session.slots
        self._backend.submit(self._session.run, self._calls, first, self._ring)

    def batch(
        self, calls: int = 0, session: Session | None = None, run: Callable[[int], object] | None = None
    ) -> Timing:
        """Time one batch: of the session's timed body, unless another session or another body of it is named."""
        session, count = session or self._session, calls or self._calls
        first, self._slot = self._slot, (self._slot + count) % session.slots
        if session.bracketed:
            return self._backend.together.timed(
                lambda: self._backend.time_bracketed(session.before, session.run, count, first, self._ring)
            )
        return self._backend.together.timed(lambda: self._backend.time(run or session.run, count, first, self._ring))

    def sample(self, part: Part) -> float:
        """Time one sample into the part, with its pair where there is one. Returns enqueue seconds of an iteration.

        Sides change places every time (ABBA), so that drift cancels.
        """
        names = list(self._sides)
        timings = {name: self._sides[name]() for name in (names if len(part.samples) % 2 == 0 else names[::-1])}
        for series, seconds in self._series({name: timing.total_s for name, timing in timings.items()}).items():
            getattr(part, series).append(seconds)
        for rank, seconds in enumerate(timings["samples"].ranks):
            part.ranks.extend([[]] if rank == len(part.ranks) else [])
            part.ranks[rank].append(seconds / self.iterations)
        walls = {name: timing.wall_s for name, timing in timings.items() if timing.wall_s is not None}
        for series, seconds in self._series(walls).items() if len(walls) == len(timings) else ():
            self.wall.setdefault(series, []).append(seconds)
        return timings["samples"].enqueue_s / self.iterations

    def _series(self, totals: Mapping[str, float]) -> dict[str, float]:
        """Seconds of an iteration by series of the part, from those of a batch by side."""
        means = {name: total / (self._calls * self._timed[name].each) for name, total in totals.items()}
        if "twinminus" in means:
            means["twin"] -= means.pop("twinminus")
        return means

    def settle(self, part: Part) -> bool:
        """Take the wall clock's times for the part's if the two disagree: work was done that the device's clock missed.

        Returns:
            Whether they were taken.
        """
        if not self.wall or abs(sum(self.wall["samples"]) / sum(part.samples) - 1.0) <= AGREE:
            return False
        for series, seconds in self.wall.items():
            getattr(part, series)[:] = seconds
        return True

    def series(self, part: Part) -> list[float]:
        """The samples whose median is reported: differences where the pass is timed as one."""
        return part.samples if self._session.part is None else paired_difference(part.samples, part.minus)

    def busy_s(self) -> float | None:
        """Durations of the device's kernels in one untimed iteration, without what comes before a bracketed one."""
        session, slot = self._session, self._slot
        if session.bracketed:
            session.before(slot)
            self._backend.synchronize()
        busy_s = self._backend.busy_s(lambda: session.run(slot))
        return None if busy_s is None else busy_s / session.each

    def close(self) -> None:
        """Let go of results and device memory."""
        self._ring = []
        for session in (self._session, self._twin):
            if session is not None:
                session.close()
