"""What reading a sensor costs: a load while its sensor is read, against the same load while nothing is.

One load goes on throughout, and reading is switched on and off in short slices of it (off, on, on, off), so that a host
that is slower for a while is slower with and without.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic, process_time, sleep
from typing import Any

import numpy as np
import pytest

from perwatt.backends.cpu import BACKEND
from perwatt.power.base import Probe
from perwatt.power.sensors.rapl import POWERCAP, SENSOR
from perwatt.power.watch import Watch
from perwatt.runner.supervisor import Worker
from perwatt.spec.case import build
from perwatt.timing.statistics import Estimate, estimate

GROUPS = 300  # of four slices: eight minutes, which it takes to tell half a percent from nothing
SLICE_S = 0.4
MOST = 0.005
CASE: dict[str, Any] = {"workload": "gemm", "params": {"m": 512, "n": 512, "k": 512}, "impl": ["torch"]}
Slices = list[tuple[float, float]]


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    """RAPL by files like the kernel's: what is counted does not matter here."""
    zone = tmp_path / POWERCAP / "intel-rapl:0"
    zone.mkdir(parents=True)
    for name, text in (("name", "package-0"), ("energy_uj", "1"), ("max_energy_range_uj", "262143328850")):
        (zone / name).write_text(text + "\n")
    return SENSOR.open(replace(BACKEND.target(), root=tmp_path))


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker("cpu", tmp_path / "worker.log", "sampling")
    worker.wait_ready()
    yield worker
    worker.stop()


class Switching(threading.Thread):
    """Reads a probe in every second and third slice of four."""

    def __init__(self, probe: Probe) -> None:
        super().__init__(daemon=True)
        self.probe = probe
        self.off, self.on = Slices(), Slices()
        self.cores_s = 0.0  # processor time of this process while it read

    def run(self) -> None:
        for number in range(4 * GROUPS):
            start, busy = monotonic(), process_time()
            if number % 4 in (1, 2):
                watch = Watch([self.probe], BACKEND.clock)
                watch.start()
                sleep(SLICE_S)
                watch.stop()
                self.on.append((start, monotonic()))
                self.cores_s += process_time() - busy
            else:
                sleep(SLICE_S)
                self.off.append((start, monotonic()))


def ratios(marks: list[list[float]], switching: Switching) -> Estimate:
    """Rate without reading over rate with it, of each group of slices."""
    times, counts = np.array(marks).T

    def rate(start: float, end: float) -> float:
        done = np.interp([start, end], times, counts)
        return float(done[1] - done[0]) / (end - start)

    off, on = ([rate(*span) for span in spans] for spans in (switching.off, switching.on))
    pairs = range(0, min(len(off), len(on)) - 1, 2)  # whole groups: a slice in which reading ends late is longer
    return estimate([math.sqrt(off[i] * off[i + 1] / (on[i] * on[i + 1])) for i in pairs])


@pytest.mark.timeout(900)
def test_sampling_costs_less_than_half_a_percent(worker: Worker, probe: Probe, benchmark: Any) -> None:
    switching = Switching(probe)
    seconds = 4 * GROUPS * SLICE_S + 2.0
    request = {"case": build(CASE).message(), "impl": "torch", "seed": 0, "window_s": seconds}

    def load() -> list[list[float]]:
        marks: list[list[float]] = []
        for event in worker.ask(request, seconds + 60.0):
            if event["event"] == "window":
                switching.start()
            elif event["event"] == "load":
                assert not event["ended"], event["ended"]
                marks = event["marks"]
        return marks

    found = ratios(benchmark.pedantic(load, rounds=1), switching)
    own = switching.cores_s / sum(end - start for start, end in switching.on) / BACKEND.threads()
    print(f"\nratio {found.median:.4f} [{found.lo:.4f}, {found.hi:.4f}] over {found.n} groups; {own:.3%} of the cores")
    benchmark.extra_info.update(ratio=found.median, lo=found.lo, hi=found.hi, cores=own)
    assert own <= MOST, f"reading takes {own:.2%} of the cores that the load has"
    assert found.median - 1 <= max(MOST, found.hi - found.median), f"sampling costs {found.median - 1:.2%}"
