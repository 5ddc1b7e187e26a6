"""NVIDIA GPUs: asynchronous, timed by CUDA events that have to agree with the wall clock. One chip of one device.

Which GPUs there are is asked of NVML, so nothing here starts CUDA before :meth:`Cuda.start`. The worker then sees the
one GPU it was given, by its UUID, whatever order CUDA would number them in.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Any

from perwatt.backends import cuda_events, cuda_findings, cuda_presence, families, inductor
from perwatt.backends.base import Backend, Device, Health, Timing
from perwatt.backends.gpu_watch import Watch
from perwatt.errors import InputError, MissingHardware
from perwatt.finding import Finding
from perwatt.hardware import chips, machine, nvml, torch_build
from perwatt.power.base import Target
from perwatt.spec.precision import Precision

if TYPE_CHECKING:
    import torch

ORDER, VISIBLE = "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES"
WARM_CALLS = 3  # before a capture, so that libraries have taken their workspaces (torch's notes on CUDA graphs)
EMPTY_BATCHES = 30
PINNED = (
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
    "allow_fp16_accumulation",  # from torch 2.7 on
)
"""Of ``torch.backends.cuda.matmul``: shortcuts of products, all off."""
TRITON_SINCE = (8, 0)  # compute capability (README of triton-lang/triton)
NO_MEMORY = ("CUDA out of memory", "CUDA error: out of memory", "Triton Error [CUDA]: out of memory", "ALLOC_FAILED")
"""What torch's allocator, the driver, Triton and libraries say, also inside what a compiler says of it."""


class Cuda(Backend):
    """One NVIDIA GPU, or one MIG instance.

    Args:
        index: of the GPU among those that ``CUDA_VISIBLE_DEVICES`` leaves, in the order of ``nvidia-smi``.
    """

    name = "cuda"
    priority = 10
    asynchronous = True
    brackets = True
    timing_method = "cuda_events"
    collectives = "nccl"

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self._properties: Any = None
        self._own: set[int] = {os.getpid()}
        self._overhead_s = 0.0
        self._watch: Watch | None = None
        self._aside: Any = None
        self._broken = False

    # What is here, without starting CUDA

    @property
    def address(self) -> str:
        """``cuda`` or ``cuda:1``."""
        return f"{self.name}:{self.index}" if self.index else self.name

    def at(self, index: int) -> Backend:
        """The GPU of that index."""
        found = [] if self._lacking() else self._gpus()
        if found and index >= len(found):
            there = "; ".join(f"{i} {gpu.name}" for i, gpu in enumerate(found))
            raise InputError(f"found GPU {index}, expected one of those here: {there}")
        return type(self)(index)

    def missing(self) -> str | None:
        """A torch without CUDA, no driver, one that is too old, no GPU, or MIG without an instance."""
        if reason := self._lacking():
            return reason
        own = self._gpus()[self.index]
        if own.sliced:
            return (
                f"GPU {self.index} ({own.name}) has MIG on and no instance: have one made "
                "(nvidia-smi mig -cgi PROFILE -C, as root) or MIG switched off"
            )
        return None

    def _lacking(self) -> str | None:
        return cuda_presence.lacking(self.build(), self._gpus)

    def build(self) -> torch_build.Build | None:
        """The torch that is installed."""
        return torch_build.installed()

    def _gpus(self) -> list[nvml.Gpu]:
        return nvml.visible(nvml.gpus(), os.environ.get(VISIBLE))

    @cached_property
    def gpu(self) -> nvml.Gpu:
        """The GPU of this backend.

        Raises:
            MissingHardware: it is not there.
        """
        try:
            return self._gpus()[self.index]
        except (nvml.NoDriver, IndexError) as error:
            raise MissingHardware(f"no {self.address}: {error}") from None

    @property
    def capability(self) -> tuple[int, int] | None:
        """By NVML."""
        return self.gpu.capability

    def count(self) -> int:
        """All GPUs that are visible."""
        return len(self._gpus())

    def unsupported_world(self, world: int) -> str | None:
        """Several GPUs are all that are here: one that was named is one, and instances of one cannot reach others."""
        if world > 1 and self.index:
            return f"needs {world} GPUs, --device {self.address} is one of them: expected --device {self.name}"
        if world > 1 and any(gpu.mig or gpu.sliced for gpu in self._gpus()):
            return "MIG is on, and instances cannot reach one another: have it switched off (nvidia-smi -mig 0)"
        return super().unsupported_world(world)

    def join(self, rank: int, world: int) -> None:
        """The GPU of the rank's number."""
        super().join(rank, world)
        if world > 1:
            self.index = rank
            vars(self).pop("gpu", None)

    def describe(self) -> Device:
        """The chip by its sheet or product name; a MIG instance is no whole one. The cache is known once CUDA is up."""
        build, sheet = self.build(), chips.by_nvml_name(self.gpu.name)
        return Device(
            chip=sheet.name if sheet else self.gpu.name,
            devices_per_chip=None if self.gpu.mig else 1,
            memory_bytes=self.gpu.memory_bytes,
            cache_bytes=float(self._properties.L2_cache_size) if self._properties else None,
            instance_type=machine.instance_type(),
            driver=nvml.driver().version,
            runtime=f"CUDA {cuda_presence.dotted(build.cuda)}" if build and build.cuda else None,
            compiler=torch_build.triton(),
        )

    def busy(self, devices: int = 1) -> str | None:
        """Processes that compute on this GPU, or on any. Before the worker starts none of them is ours."""
        gpus = [self.gpu] if devices == 1 else self._gpus()
        names = [self.address] if devices == 1 else [f"{self.name}:{index}" for index in range(len(gpus))]
        return next(filter(None, map(cuda_presence.in_use, gpus, names)), None)

    def findings(self) -> Iterable[Finding]:
        """Of every GPU of this machine, of the driver, and of whether torch fits them."""
        return cuda_findings.findings(self.build())

    def unsupported(self, precision: Precision) -> str | None:
        """What this GPU's units, or torch on them, cannot do."""
        return cuda_presence.beyond(self.gpu, precision)

    def uncompilable(self) -> str | None:
        """Inductor writes Triton, which builds its launchers with a C compiler."""
        if torch_build.triton() is None:
            return "torch.compile needs triton on cuda: pip install triton"
        if self.gpu.capability < TRITON_SINCE:
            needed, has = map(cuda_presence.dotted, (TRITON_SINCE, self.gpu.capability))
            return f"torch.compile writes Triton, which needs compute capability {needed}, {self.gpu.name} has {has}"
        if not any(shutil.which(name) for name in (os.environ.get("CC") or "gcc", "cc", "clang")):
            return "torch.compile needs a C compiler on cuda: install gcc or set CC"
        return None

    def untunable(self) -> str | None:
        """Inductor tries its own product kernels beside cuBLAS."""
        return None

    def uncapturable(self) -> str | None:
        """CUDA graphs hold whatever runs on streams."""
        return None

    # In the worker

    def start(self) -> None:
        """Take the one GPU, open its context, pin numerics, learn what an empty batch costs.

        Raises:
            MissingHardware: CUDA does not start, or torch has no code for this GPU.
        """
        os.environ[ORDER], os.environ[VISIBLE] = "PCI_BUS_ID", self.gpu.uuid
        before = {process.pid for process in nvml.Meter(self.gpu).processes()}
        self.empty_compiler_cache()
        self._open()
        # In a container NVML tells the host's process numbers, not ours.
        self._own |= {process.pid for process in nvml.Meter(self.gpu).processes()} - before
        self._pin()
        self._overhead_s = median(self._empty_batch() for _ in range(EMPTY_BATCHES))

    def _open(self) -> None:
        cuda = self.surface
        try:
            cuda.init()
            self._properties = cuda.get_device_properties(0)
            cuda.synchronize()
        except Exception as error:  # torch has RuntimeError, AssertionError and one of its own for what it put off
            raise MissingHardware(f"CUDA does not start on {self.address}: {_one_line(error)}") from None
        own = self._properties.major, self._properties.minor
        if not torch_build.runs_on(own, self.surface.get_arch_list()):
            wants = f"sm_{own[0]}{own[1]}"
            raise MissingHardware(f"this torch has no code for {wants} ({self.gpu.name}): install a build that has")

    def _pin(self) -> None:
        """Sums of products in float32, products of float32 in float32 unless a policy says otherwise."""
        import torch

        matmul = torch.backends.cuda.matmul
        for name in PINNED:
            if hasattr(matmul, name):
                setattr(matmul, name, False)
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        torch.set_float32_matmul_precision("highest")

    def prepare(self, precision: Precision) -> None:
        """Products of float32 in tf32 where that is the policy."""
        import torch

        torch.set_float32_matmul_precision("high" if precision.compute == "tf32" else "highest")

    def numerics(self) -> dict[str, str]:
        """Sums in float32; the only 8-bit formats are OCP's."""
        return super().numerics() | {"fp8": "e4m3fn"}

    def facts(self) -> dict[str, Any]:
        """What of the started GPU and its libraries can change a number."""
        import torch

        matmul = torch.backends.cuda.matmul
        return {
            **{name: getattr(matmul, name) for name in PINNED if hasattr(matmul, name)},
            "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
            "l2_bytes": self._properties.L2_cache_size,
            "multiprocessors": self._properties.multi_processor_count,
            "capability": cuda_presence.dotted(self.gpu.capability),
            "cudnn": torch.backends.cudnn.version(),
            "arch_list": " ".join(self.surface.get_arch_list()),
        }

    @property
    def surface(self) -> Any:
        """``torch.cuda``, or what stands for it in tests."""
        import torch

        return torch.cuda

    @property
    def device(self) -> torch.device:
        """The one GPU that this process sees."""
        import torch

        return torch.device("cuda", 0)

    def synchronize(self) -> None:
        """Wait for all streams."""
        self.surface.synchronize()

    def time(self, run: Callable[[int], object], iterations: int, first: int, ring: list[Any]) -> Timing:
        """CUDA events around a batch, and the wall, less what an empty batch takes of it."""
        timing = cuda_events.batch(self.surface, run, _order(first, iterations, ring), ring)
        assert timing.wall_s is not None
        return replace(timing, wall_s=max(0.0, timing.wall_s - self._overhead_s))

    def time_bracketed(
        self,
        before: Callable[[int], object],
        run: Callable[[int], object],
        iterations: int,
        first: int,
        ring: list[Any],
    ) -> Timing:
        """CUDA events around each call."""
        return cuda_events.bracketed(self.surface, before, run, _order(first, iterations, ring), ring)

    def flag(self) -> Callable[[], object]:
        """A CUDA event on the stream of the work."""
        event = self.surface.Event()
        event.record()
        return event.synchronize  # type: ignore[no-any-return]

    def target(self, devices: int = 1) -> Target:
        """The card, or all of them, by UUID; an instance of one has no meter of its own."""
        partial = f"the meter is the card's, and {self.gpu.mig} is an instance of it" if self.gpu.mig else ""
        cards = (self.gpu.card,) if devices == 1 else tuple(gpu.card for gpu in self._gpus())
        return Target(backend=self.name, chip=self.describe().chip, chips=cards, partial=partial)

    def _empty_batch(self) -> float:
        """Seconds by which the wall exceeds the events where there is nothing to do: launch and wait of the events."""
        timing = self.time(lambda slot: None, 1, 0, [None])
        assert timing.wall_s is not None
        return timing.wall_s - timing.total_s

    def reset_peak_memory(self) -> None:
        """Of torch's allocator."""
        self.surface.reset_peak_memory_stats()

    def held_memory(self) -> float:
        """Of torch's allocator."""
        return float(self.surface.memory_allocated())

    def peak_memory(self) -> float | None:
        """Of torch's allocator; what libraries take for themselves is not in it."""
        return float(self.surface.max_memory_allocated())

    def release(self) -> None:
        """Have the allocator give back what nobody holds."""
        gc.collect()
        if not self._broken:
            self.surface.empty_cache()

    def compile(self, function: Callable[..., Any], *, autotune: bool = False) -> Callable[..., Any]:
        """Inductor with static shapes; graphs of its own would hide what `+graph` measures."""
        return inductor.compiled(function, "max-autotune-no-cudagraphs" if autotune else None)

    def empty_compiler_cache(self) -> None:
        """New folders for Inductor and Triton."""
        inductor.empty_cache()

    def forget_compiled(self) -> None:
        """Drop Dynamo's code; files stay."""
        inductor.forget()

    def guards(self) -> dict[str, int]:
        """Dynamo's counters. Torch has no fall-back from a GPU to the CPU."""
        return {**inductor.counts(), "cpu_fallbacks": 0}

    def capture(self, call: Callable[[], Any]) -> Callable[[], Any]:
        """A CUDA graph, after some calls on a side stream as torch's notes ask for.

        That stream is always the same one: torch keeps a workspace of cuBLAS for every stream that has met it.
        """
        cuda, before = self.surface, self.surface.current_stream()
        self._aside = self._aside or cuda.Stream()
        self._aside.wait_stream(before)
        with cuda.stream(self._aside):
            for _ in range(WARM_CALLS):
                call()
        before.wait_stream(self._aside)
        cuda.synchronize()
        graph = cuda.CUDAGraph()
        try:
            with cuda.graph(graph):
                result = call()
        except BaseException:
            self._broken = True
            cuda.set_stream(before)  # where the capture's end fails too, torch stays on the stream of the capture
            raise

        def replay() -> Any:
            graph.replay()
            return result

        return replay

    def observed(self, call: Callable[[], object]) -> str:
        """Libraries that the kernels come from: cublas, cudnn, flash, triton and the like."""
        return families.families(call)

    def busy_s(self, call: Callable[[], object]) -> float | None:
        """By the profiler, whose own work on the host lengthens no kernel."""
        kernels = families.kernels(call)
        return sum(microseconds for _, microseconds in kernels) / 1e6 if kernels else None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A thread that asks NVML for clocks, heat, limits, errors and neighbours."""
        self._watch = Watch(nvml.Meter(self.gpu), self._own)
        self._watch.start()
        try:
            yield
        finally:
            self._watch.stop()

    def health(self, during: Sequence[tuple[float, float]]) -> Health:
        """What was seen while samples were taken."""
        assert self._watch is not None
        return replace(self._watch.health(during), mig=self.gpu.mig, chip_id=self.gpu.chip_id)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """The allocator's, the driver's and cuBLAS's ways to say so."""
        import torch

        said = any(words in str(error) for words in NO_MEMORY)
        return said or isinstance(error, torch.OutOfMemoryError | MemoryError)

    def poisoned(self, error: BaseException) -> bool:
        """Whether the context is lost: after an illegal access, say, every later call fails, even a wait.

        Or a capture failed: before 2.12, torch's allocator believes for ever after that it is still under way.
        """
        if self._broken:
            return True
        try:
            self.surface.synchronize()
        except RuntimeError:
            return True
        return False


def _order(first: int, iterations: int, ring: list[Any]) -> list[int]:
    return [i % len(ring) for i in range(first, first + iterations)]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


BACKEND = Cuda()
