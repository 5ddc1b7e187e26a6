"""The CPU: always there, synchronous, timed by the wall clock. One chip, of one device or of as many as one wants."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from perwatt.backends import cpu_findings, inductor
from perwatt.backends.base import Backend, Device, Health, Timing, no_collection
from perwatt.errors import InputError
from perwatt.finding import Finding
from perwatt.hardware import machine
from perwatt.spec.precision import Precision

if TYPE_CHECKING:
    import torch


class Cpu(Backend):
    """The host's processor, with as many threads as this process may use.

    Attributes:
        devices: that it is divided into; each has its share of cores and memory.
    """

    name = "cpu"
    asynchronous = False
    brackets = True
    timing_method = "wall"
    processes = 1
    devices = 1
    _others: float | None = None

    @property
    def address(self) -> str:
        """``cpu``, or ``cpu/2`` for one of two devices."""
        return f"{self.name}/{self.devices}" if self.devices > 1 else self.name

    def divided(self, devices: int) -> Backend:
        """The processor as a chip of so many devices, each with at least one of its cores."""
        cores = machine.usable_cores()
        if not 1 <= devices <= cores:
            raise InputError(f"found {devices}, expected 1 to {cores}, the cores that can be used")
        part = copy(self)
        part.devices = devices
        return part

    def missing(self) -> str | None:
        """None: there is always a CPU, but torch may be absent."""
        return None if importlib.util.find_spec("torch") else "torch is not installed: pip install torch"

    def describe(self) -> Device:
        """Processor, memory this process may use, last-level cache, threads."""
        return Device(
            chip=machine.cpu_model(),
            devices_per_chip=self.devices,
            memory_bytes=float(machine.memory_limit() // self.devices),
            cache_bytes=float(machine.last_level_cache()),
            threads=self.threads(),
        )

    def threads(self) -> int:
        """Of a device: OMP_NUM_THREADS where set, which is each process's, else its share of the usable cores."""
        asked = os.environ.get("OMP_NUM_THREADS", "")
        return int(asked) if asked.isdigit() and int(asked) > 0 else max(1, machine.usable_cores() // self.devices)

    def unsupported(self, precision: Precision) -> str | None:
        """What no CPU, or torch on none, can do."""
        lacking = {
            "no CPU has tf32 products": precision.compute == "tf32",
            "torch has no stochastic rounding on cpu": precision.rounding == "stochastic",
            "torch has no dtype for the e4m3 that follows IEEE 754": precision.compute == "e4m3",
            "no CPU has MXFP8 products": precision.compute == "mxfp8",
            "fast accumulation is a mode of fp8 units, and no CPU has one": precision.fast_accumulation,
        }
        reason = next((reason for reason, found in lacking.items() if found), None)
        return f"precision {precision.name} is not supported on cpu: {reason}" if reason else None

    def uncompilable(self) -> str | None:
        """Inductor compiles C++ on a CPU."""
        if any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++")):
            return None
        return "torch.compile needs a C++ compiler on cpu: install g++ or set CXX"

    def findings(self) -> Iterable[Finding]:
        """Of the host, which every other kind of device has around it too."""
        return cpu_findings.findings()

    def start(self) -> None:
        """Pin threads and float32 products, and leave the user's compiler cache alone."""
        self.empty_compiler_cache()
        import torch

        torch.set_num_threads(self.threads())
        torch.set_float32_matmul_precision("highest")

    @property
    def device(self) -> torch.device:
        """The torch device ``cpu``."""
        import torch

        return torch.device("cpu")

    def synchronize(self) -> None:
        """Nothing to wait for: calls return when they are done."""

    def time(self, run: Callable[[int], object], iterations: int, first: int, ring: list[Any]) -> Timing:
        """Wall time of a batch, the garbage collector held still."""
        order = [i % len(ring) for i in range(first, first + iterations)]
        with no_collection():
            start = perf_counter()
            for slot in order:
                ring[slot] = None  # the last result makes room first, or two buffers would take turns in the cache
                ring[slot] = run(slot)
            total = perf_counter() - start
        _leave_warm_buffer(ring)
        return Timing(total_s=total, enqueue_s=total, began=start)

    def time_bracketed(
        self,
        before: Callable[[int], object],
        run: Callable[[int], object],
        iterations: int,
        first: int,
        ring: list[Any],
    ) -> Timing:
        """Wall time of each call summed, what ``before`` takes left out."""
        order = [i % len(ring) for i in range(first, first + iterations)]
        total = 0.0
        with no_collection():
            for slot in order:
                before(slot)
                ring[slot] = None
                start = perf_counter()
                ring[slot] = run(slot)
                total += perf_counter() - start
        _leave_warm_buffer(ring)
        return Timing(total_s=total, enqueue_s=total)

    def reset_peak_memory(self) -> None:
        """Torch counts no CPU allocations."""

    def peak_memory(self) -> float | None:
        """None: torch counts no CPU allocations, and the process's peak is not the allocator's."""
        return None

    def compile(self, function: Callable[..., Any], *, autotune: bool = False) -> Callable[..., Any]:
        """Inductor with static shapes, whose products on a CPU are the framework's own."""
        return inductor.compiled(function)

    def empty_compiler_cache(self) -> None:
        """A new folder for Inductor."""
        inductor.empty_cache()

    def forget_compiled(self) -> None:
        """Drop Dynamo's code; Inductor's files stay."""
        inductor.forget()

    def guards(self) -> dict[str, int]:
        """Dynamo's counters. On a CPU nothing can fall back to it."""
        return {**inductor.counts(), "cpu_fallbacks": 0}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count the processor time of all processes and of our own over the samples."""
        self._others = None
        busy, own, wall = machine.busy_seconds(), process_time(), perf_counter()
        yield
        own = sum(self.together.gather(process_time() - own))
        others = machine.busy_seconds() - busy - own
        self._others = max(0.0, others) / ((perf_counter() - wall) * machine.logical_cores())

    def health(self, during: Sequence[tuple[float, float]]) -> Health:
        """What other processes used. Clocks and temperatures that virtual machines show cannot be trusted."""
        return Health(others=self._others)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Python's and the CPU allocator's ways to say so."""
        return isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)


def _leave_warm_buffer(ring: list[Any]) -> None:
    """Free a hot case's only result, so that what is timed next in this process writes to the same memory.

    Which pages a result of some MiB lands on moves its product by up to 3 %: sides that take turns share them.
    """
    if len(ring) == 1:
        ring[0] = None


BACKEND = Cpu()
