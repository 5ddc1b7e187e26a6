"""Watching a GPU while samples are taken: a thread that reads clocks, heat, limits and neighbours now and then."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Sequence
from statistics import median
from time import perf_counter, sleep
from typing import Protocol

from perwatt.backends.base import Health
from perwatt.hardware.nvml import Process, Reading
from perwatt.results.schema import LIMITERS

PERIOD_S = 0.05  # a reading takes some 0.1 ms of one host thread, without the interpreter's lock
NEIGHBOURS_EVERY = 10  # readings between two looks at processes, which take longer


class Card(Protocol):
    """What is watched: :class:`perwatt.hardware.nvml.Meter`."""

    def reading(self) -> Reading:
        """State now."""

    def power_limit_w(self) -> float | None:
        """In force now."""

    def ecc(self) -> int | None:
        """Uncorrected errors so far."""

    def processes(self) -> list[Process]:
        """Who is there now."""


class Watch:
    """Readings of one card between :meth:`start` and :meth:`stop`. Those of an idle card count for its heat only.

    Args:
        card: what is read.
        own: processes that may be there.
        wait: sleeps; tests bring their own.
    """

    def __init__(self, card: Card, own: Collection[int], wait: Callable[[float], None] = sleep) -> None:
        self._card, self._own, self._wait = card, frozenset(own), wait
        self._readings: list[tuple[float, Reading]] = []
        self._limits: list[float] = []
        self._neighbours: set[int] = set()
        self._errors_before = card.ecc()
        self._errors_after: int | None = None
        self._failed = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="perwatt-gpu-watch", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End, after one reading more."""
        self._ended.set()
        self._thread.join()

    def health(self, during: Sequence[tuple[float, float]]) -> Health:
        """What was seen: medians and extremes over the readings under load.

        Args:
            during: spans of ``perf_counter`` that count; all readings do where none fell into them.
        """
        readings = _believed(self._readings)
        within = [one for at, one in readings if any(start <= at <= end for start, end in during)]
        counted = within or [one for _, one in readings]
        busy = [one for one in counted if not one.idle]
        clocks = [one.sm_clock_mhz for one in busy if one.sm_clock_mhz is not None]
        memory = [one.mem_clock_mhz for one in busy if one.mem_clock_mhz is not None]
        heat = [one.temp_c for one in counted if one.temp_c is not None]
        limiter = max((one.limiter for one in busy), key=LIMITERS.index, default="unknown")
        return Health(
            limiter="unknown" if self._failed and limiter == "none" else limiter,
            power_limit_w=min(self._limits, default=None),
            sm_clock_mhz=median(clocks) if clocks else None,
            sm_clock_mhz_min=min(clocks, default=None),
            mem_clock_mhz=median(memory) if memory else None,
            temp_c=max(heat, default=None),
            ecc=self._new_errors(),
            others=self._others(),
        )

    def _new_errors(self) -> int | None:
        before, after = self._errors_before, self._errors_after
        return None if before is None or after is None else max(0, after - before)

    def _others(self) -> float | None:
        """How much of the card neighbours use, nobody tells; nor whether there are any, once it answers no more."""
        return 1.0 if self._neighbours else None if self._failed else 0.0

    def _watch(self) -> None:
        try:
            self._read()
            self._errors_after = self._card.ecc()
        except Exception as error:  # what was seen until then still counts, and the samples are what they are
            self._failed = True
            print(f"the GPU is not watched any more: {type(error).__name__}: {error}", file=sys.stderr)

    def _read(self) -> None:
        count = 0
        while True:
            self._readings.append((perf_counter(), self._card.reading()))
            if count % NEIGHBOURS_EVERY == 0 or self._ended.is_set():
                self._look_around()
            if self._ended.is_set():
                return
            count += 1
            self._wait(PERIOD_S)

    def _look_around(self) -> None:
        limit = self._card.power_limit_w()
        self._limits += [limit] if limit is not None else []
        self._neighbours |= {process.pid for process in self._card.processes()} - self._own


def _believed(readings: Sequence[tuple[float, Reading]]) -> list[tuple[float, Reading]]:
    """Readings in which a slowdown without a cause counts only if one beside it has it too."""
    doubts = [False, *(one.doubtful for _, one in readings), False]
    alone = [doubts[i] and not (doubts[i - 1] or doubts[i + 1]) for i in range(1, len(doubts) - 1)]
    return [(at, one.cleared() if by_itself else one) for (at, one), by_itself in zip(readings, alone, strict=True)]
