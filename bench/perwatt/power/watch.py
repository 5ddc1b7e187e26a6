"""Reading sensors while a load runs: one thread for each, which a sensor that hangs cannot hold up the run with."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

from perwatt.power.base import Facts, Lost, Probe, Reading
from perwatt.power.clock import Clock
from perwatt.power.trace import Trace

HANGS_S = 10.0  # a sensor that does not answer for so long is given up


class Watch:
    """Readings of probes between :meth:`start` and :meth:`stop`.

    Args:
        probes: what is read; they stay open.
        clock: of the host.
    """

    def __init__(self, probes: Sequence[Probe], clock: Clock) -> None:
        self._clock = clock
        self._probes = probes
        self._traces = [Trace(facts=probe.facts) for probe in probes]
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=pair, name=f"perwatt-{pair[0].facts.sensor}", daemon=True)
            for pair in zip(probes, self._traces, strict=True)
        ]

    def start(self) -> None:
        """Begin to read."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Trace]:
        """End. The traces, in the order of the probes."""
        self._ended.set()
        for thread, trace in zip(self._threads, self._traces, strict=True):
            if thread.ident is None:  # never started
                continue
            thread.join(HANGS_S)
            if thread.is_alive() and not trace.lost:
                trace.lost = f"{trace.facts.sensor} did not answer for {HANGS_S:g} s"
        return [trace.copy() for trace in self._traces]

    def _watch(self, probe: Probe, trace: Trace) -> None:
        at = self._clock.monotonic()
        while not self._ended.is_set():
            start, unix = self._clock.monotonic(), self._clock.unix()
            try:
                reading = probe.read()
                reason = "" if reading is None else _amiss(trace.facts, reading)
            except Lost as error:
                trace.lost = " ".join(str(error).split())
                return
            except Exception as error:  # whatever a sensor raises costs the energy of a window, not the run
                trace.lost = f"{trace.facts.sensor}: {type(error).__name__}: {' '.join(str(error).split())}"
                return
            end = self._clock.monotonic()
            if reading is not None:
                if reason:
                    trace.lost = reason
                    return
                trace.add(start, end, unix, reading)
            at = max(at + trace.facts.poll_s, end)
            self._clock.sleep(at - end)


def _amiss(facts: Facts, reading: Reading) -> str:
    """Why a reading cannot be kept: no file holds what is no number, or belongs to no channel. Empty where it can."""
    columns = (reading.values, reading.lows or reading.values, reading.highs or reading.values)
    if any(len(column) != len(facts.channels) for column in columns):
        return f"{facts.sensor}: a reading without a value for each of {len(facts.channels)} channels"
    numbers = (*reading.values, *reading.lows, *reading.highs, *(() if reading.stamp is None else (reading.stamp,)))
    garbage = next((number for number in numbers if not math.isfinite(number)), None)
    return "" if garbage is None else f"{facts.sensor} reads {garbage}, expected a finite number"
