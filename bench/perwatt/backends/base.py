"""The protocol every kind of device fulfils: detect, describe, synchronize, time, remember, compile, and say no."""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar

from perwatt.backends.together import Together
from perwatt.errors import InputError
from perwatt.finding import Finding
from perwatt.power.base import Target
from perwatt.power.clock import Clock
from perwatt.results.schema import LIMITERS
from perwatt.spec.precision import Precision

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """What the backend found. Columns of the row and of the environment record come from here.

    Attributes:
        chip: name of the chip sheet, or the processor's own name where there is no sheet.
        devices_per_chip: torch devices that make up one chip; None where this one is a slice of a chip.
        memory_bytes: memory a case may use on one device.
        cache_bytes: last-level cache, which cold operands have to exceed; None until the device is started, where only
            the runtime knows it.
        threads: host threads the device computes with (CPU), else None.
    """

    chip: str
    devices_per_chip: int | None
    memory_bytes: float
    cache_bytes: float | None
    threads: int | None = None
    lnc: int | None = None
    instance_type: str | None = None
    driver: str | None = None
    runtime: str | None = None
    compiler: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Seconds of one batch of iterations.

    Attributes:
        total_s: from the first start to the end of the last iteration's work on the device.
        enqueue_s: until the host had handed over the last iteration; equals ``total_s`` on synchronous devices.
        wall_s: the same as ``total_s`` by the wall clock, where that is by a clock of the device that may miss work.
        began: ``perf_counter`` at the first start, where the batch is one span; ranks of a host share that clock.
        ranks: seconds that each rank by itself took, where several worked.
    """

    total_s: float
    enqueue_s: float
    wall_s: float | None = None
    began: float | None = None
    ranks: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """State of the device over the samples of a case; None is not known, which is not the same as fine.

    Attributes:
        others: share of the device, 0 to 1, that other processes used meanwhile.
        device_errors: executions that failed on the device meanwhile.
        unhealthy: parts of the chip that its driver calls unhealthy, separated by spaces; empty where none is.
        engine_busy: share of its cycles, 0 to 1, in which the unit for products worked, by counters nobody documents.
        held_bytes: device memory in use right after the samples, by the driver's count, programs included.
    """

    limiter: str = "unknown"
    power_limit_w: float | None = None
    sm_clock_mhz: float | None = None
    sm_clock_mhz_min: float | None = None
    mem_clock_mhz: float | None = None
    temp_c: float | None = None
    ecc: int | None = None
    mig: str | None = None
    chip_id: str | None = None
    others: float | None = None
    device_errors: int | None = None
    unhealthy: str | None = None
    engine_busy: float | None = None
    held_bytes: int | None = None


AS_ONE: dict[str, Callable[[list[Any]], Any]] = {
    "limiter": lambda seen: LIMITERS[max(LIMITERS.index(one) if one in LIMITERS else 0 for one in seen)],
    "power_limit_w": min,
    "sm_clock_mhz": median,
    "sm_clock_mhz_min": min,
    "mem_clock_mhz": median,
    "temp_c": max,
    "ecc": sum,
    "mig": lambda seen: seen[0],
    "chip_id": lambda seen: seen[0],
    "device_errors": sum,
    "unhealthy": lambda seen: " ".join(dict.fromkeys(" ".join(seen).split())) or None,
    "engine_busy": median,
    "held_bytes": max,
}
"""How the health of a row becomes one of that of several processes or devices; unknown values are left out before."""
FAULTS = ("ecc", "device_errors", "unhealthy")  # fields of health with which no figure of the device can be trusted


@contextmanager
def no_collection() -> Iterator[None]:
    """Python's garbage collector held still, so that it does not run inside a sample."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Backend(ABC):
    """One kind of device. One file defines one, as ``BACKEND``.

    Attributes:
        priority: which one ``--device auto`` takes among those present.
        asynchronous: whether calls return before the device is done, so that enqueue time has a meaning.
        brackets: whether single calls inside an iteration can be timed, so that ``bwd`` is measured directly.
        timing_method: value of the column of that name; ``wall`` replaces it where the wall clock sees more.
        keeps_compiled: what is compiled stays on disk for later runs, so that ``perwatt compile`` spares them the wait.
            Elsewhere every run compiles into a cache of its own, or its cold compilations would not be cold.
        processes: default number of process restarts.
        longest_sequence: tokens of the longest sequence that the device's attention takes; None without a limit.
        compiled: word in the column ``path`` for code that ``torch.compile`` made.
        clock: of the host, as its workers and sensors see it.
        collectives: name of the device's collectives for ``torch.distributed.init_process_group``.
        rank, world: which of how many processes this one is that work on a case together, one for each device.
        together: what they agree by.
    """

    name: ClassVar[str]
    priority: ClassVar[int] = 0
    asynchronous: ClassVar[bool]
    brackets: ClassVar[bool]
    timing_method: ClassVar[str]
    processes: ClassVar[int] = 3
    longest_sequence: ClassVar[int | None] = None
    keeps_compiled: ClassVar[bool] = False
    compiled: ClassVar[str] = "inductor"
    clock: ClassVar[Clock] = Clock()
    collectives: ClassVar[str] = "gloo"
    rank: int = 0
    world: int = 1
    together: Together = Together()

    @property
    def address(self) -> str:
        """How a worker is told which device to take: the name, and a number where there are several."""
        return self.name

    def at(self, index: int) -> Backend:
        """The backend for one of several devices. Where there is none at all, :meth:`missing` says so.

        Raises:
            InputError: there is no such device among those here.
        """
        if index:
            raise InputError(f"found {self.name}:{index}, expected {self.name}, which is one device")
        return self

    def divided(self, devices: int) -> Backend:
        """The backend whose chip is made of so many devices, where that is the user's choice, as on a CPU.

        Raises:
            InputError: the chip has its devices, whatever anybody wants.
        """
        there = {1, self.describe().devices_per_chip or 1, self.count()}
        if devices not in there:
            numbers = " or ".join(map(str, sorted(there)))
            raise InputError(f"found {devices}, expected {numbers}, as many devices as a placement here has")
        return self

    def world_of(self, placement: str) -> int | None:
        """Devices of this host that a placement takes; None where it takes more than this host, or nobody knows."""
        return {"device": 1, "chip": self.describe().devices_per_chip, "node": self.count()}.get(placement)

    def count(self) -> int:
        """Devices on this host that can be used. May not start the device's runtime."""
        return self.describe().devices_per_chip or 1

    def unsupported_world(self, world: int) -> str | None:
        """Why so many devices of this host cannot work together, with what can, or None. Asked before any starts."""
        there = self.count()
        return f"needs {world} devices, {there} can be used" if world > there else None

    def join(self, rank: int, world: int) -> None:
        """Be one of several ranks, each on a device of its own: called before :meth:`start`, in a rank's process.

        Between the two, ``torch.distributed`` is initialized for :attr:`collectives`.
        """
        self.rank, self.world = rank, world

    @abstractmethod
    def missing(self) -> str | None:
        """Why there is no such device here, with the remedy; None if there is one. Never raises, never hangs."""

    def stands(self) -> bool:
        """Whether hardware of this kind is here though :meth:`missing` says that it cannot be used.

        Then ``--device auto`` takes nothing in its place: who pays for an accelerator does not mean the processor.
        """
        return False

    def mistake(self) -> InputError | None:
        """What the user has set that cannot hold here, or None. Asked where nothing is missing; never raises."""
        return None

    @abstractmethod
    def describe(self) -> Device:
        """What is here. May not start the device's runtime."""

    @abstractmethod
    def unsupported(self, precision: Precision) -> str | None:
        """Why a precision policy cannot be computed here, or None."""

    @abstractmethod
    def start(self) -> None:
        """Called once in the worker: pin everything that can change numerics, start the runtime."""

    @property
    def capability(self) -> tuple[int, int] | None:
        """CUDA compute capability; None of what is no NVIDIA GPU. Starts no runtime."""
        return None

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The torch device of this worker."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until the device has done all it was given."""

    @abstractmethod
    def time(self, run: Callable[[int], object], iterations: int, first: int, ring: list[Any]) -> Timing:
        """Time ``iterations`` calls of ``run``, slots in turn from ``first``; results go into ``ring`` by slot."""

    def submit(self, run: Callable[[int], object], iterations: int, first: int, ring: list[Any]) -> None:
        """Hand over ``iterations`` calls of ``run`` as :meth:`time` does, without a clock and without waiting."""
        for i in range(first, first + iterations):
            slot = i % len(ring)
            ring[slot] = None
            ring[slot] = run(slot)

    def flag(self) -> Callable[[], object]:
        """A mark behind all that was handed over so far. What is returned waits until the device has come to it."""
        return self.synchronize

    def target(self, devices: int = 1) -> Target:
        """What sensors of power are to look at while so many devices work. May not start the device's runtime."""
        device = self.describe()
        per_chip, idle = device.devices_per_chip, "some"
        whole = bool(per_chip) and devices % (per_chip or 1) == 0
        if per_chip:
            idle = f"{-devices % per_chip} of its {per_chip}"
        partial = "" if whole else f"{idle} devices idled, and the power of a chip cannot be divided among them"
        return Target(backend=self.name, chip=device.chip, partial=partial)

    @abstractmethod
    def time_bracketed(
        self,
        before: Callable[[int], object],
        run: Callable[[int], object],
        iterations: int,
        first: int,
        ring: list[Any],
    ) -> Timing:
        """As :meth:`time`, with ``before`` ahead of each call and outside the time."""

    @abstractmethod
    def reset_peak_memory(self) -> None:
        """Start counting peak memory anew."""

    def held_memory(self) -> float:
        """Bytes that are allocated now, by the allocator's count; 0 where nothing counts them."""
        return 0.0

    @abstractmethod
    def peak_memory(self) -> float | None:
        """Bytes at the peak by the allocator's count since the reset, or None where nothing counts them."""

    @abstractmethod
    def compile(self, function: Callable[..., Any], *, autotune: bool = False) -> Callable[..., Any]:
        """``torch.compile`` as this device wants it, with static shapes.

        Args:
            function: what is compiled.
            autotune: have the compiler try several kernels for each product and keep the fastest.
        """

    def uncompilable(self) -> str | None:
        """Why nothing can be compiled here (no C++ compiler, say), or None."""
        return None

    def untunable(self) -> str | None:
        """Why ``autotune`` changes nothing here, or None."""
        return f"torch.compile has no kernels to choose from on {self.name}"

    def uncapturable(self) -> str | None:
        """Why calls cannot be recorded as a graph of the device and played back, or None."""
        return f"{self.name} has no graphs that could be captured"

    def capture(self, call: Callable[[], Any]) -> Callable[[], Any]:
        """Record what a call does to the device. The result plays it back, and gives the same tensors every time.

        Operands are read where they were when the call was recorded, so new ones have to be copied there.
        """
        raise NotImplementedError(self.uncapturable())

    def observed(self, call: Callable[[], object]) -> str:
        """The path that one untimed call really takes: see :mod:`perwatt.backends.observe`."""
        from perwatt.backends.observe import operations

        return operations(call)

    def busy_s(self, call: Callable[[], object]) -> float | None:
        """Durations of the device's kernels in one untimed call, summed, in seconds; None where nothing tells them."""
        return None

    def noted(self, call: Callable[[], object]) -> None:
        """Run one untimed call with an eye on what is known to be slow here."""
        call()

    def doubts(self) -> tuple[str, ...]:
        """Flags of the row for what was slow in the last call that was observed or noted; told once."""
        return ()

    def numerics(self) -> dict[str, str]:
        """What is pinned that can change a number, by names that all backends share; shown where two sides differ."""
        return {"accumulate": "fp32", "rounding": "nearest"}

    def facts(self) -> dict[str, Any]:
        """What else of the started device can change a number, for the environment record."""
        return {}

    def prepare(self, precision: Precision) -> None:  # noqa: B027
        """Settings that a policy needs, before a case of it is opened."""

    def findings(self) -> Iterable[Finding]:
        """What ``perwatt doctor`` tells of this kind of device beside what every backend can be asked.

        That is :meth:`missing`, :meth:`busy` and :meth:`uncompilable`. Asked for where no such device is, too: what
        keeps one from being used is what people look for. Starts no runtime, changes nothing, waits for no tool without
        a limit.
        """
        return ()

    def busy(self, devices: int = 1) -> str | None:
        """Who else uses what so many devices are to work on, with the remedy, or None; None where all share them."""
        return None

    def reckoning(self, devices: int = 1) -> Callable[[], int] | None:
        """Where a device counts failed executions only as their process ends: a look at its counters before that.

        What is given tells, once the process has ended, how many came. None where they are counted at once, or nowhere.
        """
        return None

    def poisoned(self, error: BaseException) -> bool:
        """Whether nothing can be computed in this process after an exception."""
        return False

    def release(self) -> None:  # noqa: B027
        """Give the device's memory back that closed sessions held."""

    def autocast_ops(self) -> dict[str, str]:
        """Operations of a training step and the formats they compute in under autocast to bfloat16, once started."""
        from perwatt.backends.autocast import probe

        return probe(self.device)

    def empty_compiler_cache(self) -> None:  # noqa: B027
        """Give the compiler an empty cache on disk, so that the next compilation is a cold one."""

    def cold(self) -> bool:
        """Whether what was needed since :meth:`empty_compiler_cache` was compiled, and not found on the disk."""
        return True

    @abstractmethod
    def forget_compiled(self) -> None:
        """Drop compiled code from the process but not from the compiler's cache on disk."""

    @abstractmethod
    def guards(self) -> dict[str, int]:
        """Counts of compilations, graph breaks and CPU fallbacks so far: none may change inside a sample."""

    @abstractmethod
    def health(self, during: Sequence[tuple[float, float]]) -> Health:
        """State of the device while it was watched: of several ranks each tells what is its own device's.

        Args:
            during: spans of ``perf_counter`` that count, where the device was read often enough to tell them apart.
        """

    @abstractmethod
    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an exception says that memory ran out."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around the samples of a case: telemetry threads start and stop here."""
        yield
