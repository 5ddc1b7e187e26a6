"""Watching a logical NeuronCore while samples are taken: error counters before and after, and neuron-monitor between.

An error count of 0 proves nothing (the driver shows 0 for what it cannot read), so only what grows is told. Clocks,
heat and throttling are nowhere but in profiles: they stay unknown.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perwatt.backends.base import Health
from perwatt.hardware import neuron_cores, neuron_tools
from perwatt.hardware.neuron_cores import Cores, Engine
from perwatt.hardware.neuron_monitor import COMMAND, Monitor
from perwatt.hardware.neuron_report import MonitorError, Report
from perwatt.hardware.neuron_sysfs import NeuronChip

UNCORRECTED = ("mem_ecc_uncorrected", "mem_ecc_repairable_uncorrected", "sram_ecc_uncorrected")
BAD = ("completed_with_err", "timed_out", "incorrect_input", "failed_to_queue")  # of neuron-monitor's outcomes
GONE = "chip_gone"  # the driver showed the chip, and does no longer
PERIOD_S = 1
READ_S = 2.0 * PERIOD_S
WHOLE = 100.0
Open = Callable[[], "Monitor | None"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What counters say at one moment; None where they cannot be read."""

    ecc: int | None
    faults: dict[str, int] | None
    engine: Engine | None
    unhealthy: tuple[str, ...] | None
    memory: int | None


def monitor() -> Monitor | None:
    """A running neuron-monitor, or None where there is none."""
    found = neuron_tools.which(COMMAND[0])
    if found is None:
        return None
    try:
        return Monitor(PERIOD_S, (found,))
    except MonitorError:
        return None


class Watch:
    """Counters of one logical core between :meth:`start` and :meth:`stop`.

    Args:
        chip: it is of.
        cores: its physical cores, by number on the chip.
        live: whether the driver counts while this process lives.
        own: logical cores that this run holds, whose use is no neighbour's.
        opened: starts neuron-monitor.

    Attributes:
        tells_of_chip: whether neuron-monitor is listened to, and errors of the whole chip are told; of several ranks on
            a chip one does.
    """

    tells_of_chip = True

    def __init__(
        self, chip: NeuronChip, cores: Sequence[int], live: bool, own: Sequence[int], opened: Open = monitor
    ) -> None:  # fmt: skip
        self._chip, self._live, self._own, self._opened = chip, live, frozenset(own), opened
        self._cores = Cores(chip, cores)
        self._reports: list[Report] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="perwatt-neuron-watch", daemon=True)
        self._before = self._counts()
        self._after = self._before

    def start(self) -> None:
        """Begin to listen."""
        self._before = self._counts()
        if self.tells_of_chip:
            self._thread.start()

    def stop(self) -> None:
        """End, and read the counters once more."""
        self._ended.set()
        if self.tells_of_chip:
            self._thread.join()
        self._after = self._counts()

    def health(self) -> Health:
        """What was counted meanwhile."""
        before, after = self._before, self._after
        return Health(
            limiter="unknown", ecc=self._ecc() if self.tells_of_chip else None, chip_id=self._chip.identity,
            device_errors=self._errors(), unhealthy=self._unhealthy(), others=self._others(),
            engine_busy=neuron_cores.busy_share(before.engine, after.engine), held_bytes=after.memory,
        )  # fmt: skip

    def _counts(self) -> Counts:
        chip, ecc = self._chip, self._chip.ecc
        known = [ecc[name] for name in UNCORRECTED if name in ecc]
        return Counts(
            ecc=sum(known) if known else None, faults=self._cores.faults() if self._live else None,
            engine=self._cores.engine(), unhealthy=chip.unhealthy,
            memory=self._cores.memory() if self._live else None,
        )  # fmt: skip

    def _unhealthy(self) -> str | None:
        """What the driver calls so, and a chip that it shows no longer."""
        if not self._chip.folder.is_dir():
            return GONE
        known = [found for found in (self._before.unhealthy, self._after.unhealthy) if found is not None]
        return " ".join(dict.fromkeys(part for found in known for part in found)) if known else None

    def _ecc(self) -> int | None:
        """New uncorrected errors, by the driver's files or by neuron-monitor, whichever saw more."""
        seen = [counts for report in self._reports if (counts := report.ecc.get(self._chip.number))]
        sums = [sum(counts[name] for name in UNCORRECTED if name in counts) for counts in seen]
        return _most(_grown(self._before.ecc, self._after.ecc), _grown(sums[0], sums[-1]) if sums else None)

    def _errors(self) -> int | None:
        """Executions that failed: by the driver's counters of these cores, or neuron-monitor's of all processes."""
        found = neuron_cores.failed(neuron_cores.moved(self._before.faults, self._after.faults))
        seen = [runtime.executions for report in self._reports for runtime in report.runtimes if runtime.executions]
        if not seen:
            return found
        return _most(found, sum(max(sum(one.outcomes[name] for name in BAD), one.errors["hardware"]) for one in seen))

    def _others(self) -> float | None:
        """Largest share of a core that others used it for; whole periods only, which the outer ones are not."""
        whole = self._reports[1:-1]
        shares = [
            use / WHOLE for report in whole for number, use in report.utilization.items() if number not in self._own
        ]
        return max(shares, default=0.0) if whole else None

    def _listen(self) -> None:
        """Reports of neuron-monitor until the end; where it fails, what was heard until then counts."""
        running = self._opened()
        if running is None:
            return
        with running:
            try:
                while not self._ended.is_set():
                    if report := running.read(READ_S):
                        self._reports.append(report)
            except MonitorError as error:
                print(error, file=sys.stderr)


def _most(*counts: int | None) -> int | None:
    return max((count for count in counts if count is not None), default=None)


def _grown(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(0, after - before)
