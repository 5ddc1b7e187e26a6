"""Devices that play back: recorded times of iterations, and a recorded trace of power, on a clock that runs faster.

The sensors are the real ones, on the fake driver of each chip; the power that it shows follows the recording while the
device is busy. The CPU computes each batch once, so that gates have something to check. What is played is in
``recordings/``, made up from published figures: no such chip was measured for it.

``REPLAY_STATE`` names a file through which worker and sensors know when the device was busy, ``REPLAY_SPEED`` how many
seconds pass in one, ``REPLAY_FAULT`` what goes wrong: see each device.
"""

from __future__ import annotations

import atexit
import os
import random
import shutil
import struct
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from math import floor
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

from fakes import nvml
from fakes.neuron_driver import LOOK_S, NeuronDriver
from fakes.nvml import Card, NvmlLibrary
from fakes.nvml_power import PowerMeter
from perwatt.backends.base import Device, Health, Timing
from perwatt.backends.cpu import Cpu
from perwatt.power.base import Target
from perwatt.power.clock import Clock

RECORDINGS = Path(__file__).parent / "recordings"
FAULT = os.environ.get("REPLAY_FAULT", "")
BEGUN = 1_790_000_000.0  # of the device's wall clock
FAULT_AFTER_S = 4.0  # of load
LATE_S = 2.0  # by so much the host may be late, and the device is not idle
SPAN = struct.Struct("dd")


class Fast(Clock):
    """A clock that runs faster, the same in every process of the host.

    Attributes:
        due: when the device was done with what the host waited for last: a host that is late by less than
            :data:`LATE_S` reads that, for it is the clock that runs too fast, and not the device that was slow.
    """

    due: float | None = None

    speed = float(os.environ.get("REPLAY_SPEED", "10"))
    origin = float(os.environ.get("REPLAY_ORIGIN", "0"))

    def real(self) -> float:
        return (time.monotonic() - self.origin) * self.speed

    def monotonic(self) -> float:
        now = self.real()
        return self.due if self.due is not None and now - self.due < LATE_S else now

    def unix(self) -> float:
        return BEGUN + self.real()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds) / self.speed)


class Busy:
    """When the device was busy, in a file: the worker writes, the driver of the orchestrator's process reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spans: list[tuple[float, float]] = []

    def add(self, start: float, end: float) -> None:
        if self._spans and start <= self._spans[-1][1] + 1e-3:
            self._spans[-1] = (self._spans[-1][0], end)
            self._write(len(self._spans) - 1)
        else:
            self._spans = self.spans()
            self._spans.append((start, end))
            self._write(len(self._spans) - 1)

    def _write(self, at: int) -> None:
        with open(self._path, "r+b" if self._path.exists() else "w+b") as file:
            file.seek(at * SPAN.size)
            file.write(SPAN.pack(*self._spans[at]))

    def spans(self) -> list[tuple[float, float]]:
        data = self._path.read_bytes() if self._path.exists() else b""
        return [SPAN.unpack_from(data, at) for at in range(0, len(data) // SPAN.size * SPAN.size, SPAN.size)]

    def since(self, at: float) -> float | None:
        """Seconds that the device has been busy at a time; None where it rests."""
        spans = self.spans()
        found = bisect_right(spans, (at, float("inf"))) - 1
        return at - spans[found][0] if found >= 0 and at <= spans[found][1] else None


class RecordedMeter(PowerMeter):
    """A card's meter whose integral is exact, so that it costs no time. What goes wrong does so in the first load."""

    device: Replay
    begun: float

    def joules(self, until: float) -> float:
        return self.device.integral(self.begun, self.begun + until)

    def energy_mj(self) -> int:
        reloaded = FAULT == "backwards" and self._begun(0.0)
        return super().energy_mj() - (floor(1000 * self.joules(self.fault_at())) if reloaded else 0)

    def fault_at(self) -> float:
        spans = self.device.busy_spans.spans()
        return spans[0][0] + FAULT_AFTER_S - self.begun if spans else float("inf")

    def _begun(self, at: float | None) -> bool:
        return at is not None and self.clock() >= self.fault_at()


class Replay(Cpu):
    """See the module."""

    asynchronous = True
    brackets = False
    processes = 1
    priority = -1  # never chosen by itself
    clock = Fast()
    recording: str
    chip: str

    def __init__(self) -> None:
        self.played: dict[str, Any] = yaml.safe_load((RECORDINGS / f"{self.recording}.yaml").read_text())
        self.busy_spans = Busy(Path(os.environ.get("REPLAY_STATE", os.devnull)))
        self._free_at = 0.0
        self._random = random.Random(7)

    def describe(self) -> Device:
        return Device(chip=self.chip, devices_per_chip=1, memory_bytes=20e9, cache_bytes=None, driver="replayed")

    def unsupported(self, precision: Any) -> str | None:
        return None

    def iteration_s(self, run: Callable[[int], object]) -> float:
        """Recorded seconds of an iteration of this body, with the recorded spread."""
        session = getattr(run, "__self__", None)
        mean_s = self.played["seconds"][session._case.workload.name]
        return mean_s * (1.0 + self._random.gauss(0.0, self.played["spread"]))

    def time(self, run: Callable[[int], object], iterations: int, first: int, ring: list[Any]) -> Timing:
        slot = first % len(ring)
        ring[slot] = run(slot)
        total = iterations * self.iteration_s(run)
        return Timing(total_s=total, enqueue_s=0.1 * total)

    def submit(self, run: Callable[[int], object], iterations: int, first: int, ring: list[Any]) -> None:
        now = self.clock.real()
        start = self._free_at if now - self._free_at < LATE_S else now
        self._free_at = start + iterations * self.iteration_s(run)
        self.busy_spans.add(start, self._free_at + LATE_S)

    def flag(self) -> Callable[[], object]:
        due = self._free_at

        def wait() -> None:
            self.clock.sleep(due - self.clock.real())
            self.clock.due = due

        return wait

    def health(self, during: Any) -> Health:
        return Health(limiter="none", power_limit_w=self.played.get("power_limit_w"), chip_id="replayed")

    def integral(self, start: float, end: float) -> float:
        """The recorded value, summed over time."""
        total = self.played["idle"] * (end - start)
        points = [*self.played["load"], [float("inf"), 0.0]]
        for began, done in self.busy_spans.spans():
            for (after, value), (until, _) in pairwise(points):
                a, b = max(began + after, start), min(began + until, done, end)
                total += max(0.0, b - a) * (value - self.played["idle"])
        return float(total)

    def level(self, at: float) -> float:
        """Recorded value at a time: at rest, or so long after the load began."""
        busy = self.busy_spans.since(at)
        if busy is None:
            return float(self.played["idle"])
        points = self.played["load"]
        return float(next((value for seconds, value in reversed(points) if busy >= seconds), points[0][1]))


class ReplayH100(Replay):
    """An H100: NVML's energy counter over the recording. Faults: ``lost``, ``zero``, ``backwards``, ``denied``."""

    name = "replay-h100"
    recording, chip = "h100", "h100-sxm"

    def target(self, devices: int = 1) -> Target:
        card = Card()
        begun = self.clock.monotonic()
        faults = {"lost": "lost_at", "zero": "zero_at", "denied": "denied_at"}
        at = {faults[FAULT]: 0.0} if FAULT in faults else {}
        card.meter = RecordedMeter(
            watts=lambda t: self.level(begun + t), clock=lambda: self.clock.monotonic() - begun, **at
        )
        card.meter.device, card.meter.begun = self, begun
        nvml.install(NvmlLibrary(card))
        return Target(backend="cuda", chip=self.chip, chips=(card.uuid,))


class ReplayTrn2(Replay):
    """A Trainium2, whole: the driver's percentages over the recording. Faults: ``no_data``, ``gone``, ``garbage``."""

    name = "replay-trn2"
    recording, chip = "trn2", "trainium2"

    def target(self, devices: int = 1) -> Target:
        return self._target

    @cached_property
    def _target(self) -> Target:
        root = Path(tempfile.mkdtemp(prefix="replay-"))
        atexit.register(shutil.rmtree, root, ignore_errors=True)
        driver = NeuronDriver(
            root, self._percent, start=self.clock.unix(), version=os.environ.get("REPLAY_DRIVER", "2.30.2.0"),
            refresh_s=2.0 if FAULT == "no_data" else 0.1,
        )  # fmt: skip
        Thread(target=self._run, args=[driver], daemon=True).start()
        return Target(backend="neuron", chip=self.chip, chips=("0",), root=root)

    def _percent(self, chip: int, die: int, unix: float) -> float:
        return self.level(unix - BEGUN) * self.played["dies"][die]

    def _run(self, driver: NeuronDriver) -> None:
        """Let the driver keep up with the clock."""
        while True:
            behind = self.clock.unix() - driver.now
            if behind >= LOOK_S:
                driver.advance(behind // LOOK_S * LOOK_S)
            spans = self.busy_spans.spans()
            if FAULT in ("gone", "garbage") and spans and driver.now - BEGUN > spans[0][0] + FAULT_AFTER_S:
                driver.breaks(driver.live(0), None if FAULT == "gone" else "die,percent")
                return
            time.sleep(0.002)


H100, TRN2 = ReplayH100(), ReplayTrn2()
