"""Trainium by the native torch-neuronx: one torch device is one logical NeuronCore, asynchronous, timed by the wall.

What is here is found in files and by tools; nothing starts the runtime before :meth:`Neuron.start`, as a core is the
process's that does. Names of the stack, their sources and limits are in ``docs/trainium.md``.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from perwatt.backends import inductor, neuron_errors, neuron_memory, neuron_pins, neuron_seen
from perwatt.backends.base import Health, Timing, no_collection
from perwatt.backends.neuron_cache import Cache, scrubbed
from perwatt.backends.neuron_presence import Presence
from perwatt.backends.neuron_watch import Watch
from perwatt.errors import MissingHardware
from perwatt.hardware import neuron_cores
from perwatt.hardware.neuron_settings import LNC, VISIBLE
from perwatt.hardware.neuron_stack import Stack

if TYPE_CHECKING:
    import torch

SHOWN = 200  # characters of an error that is quoted


class Neuron(Presence):
    """One logical NeuronCore.

    Args:
        index: of the core among those that may be used.
        stack: what is here, if somebody has looked already.
    """

    asynchronous = True
    brackets = False  # events hold times of the host
    timing_method = "wall"
    collectives = "neuron"
    longest_sequence = 36_864  # of attention_cte, the kernel behind attention (SDK 2.32, NKI Library)
    keeps_compiled = True
    compiled = "neff"

    def __init__(self, index: int = 0, stack: Stack | None = None) -> None:
        super().__init__(index, stack)
        self._cache: Cache | None = None
        self._watch: Watch | None = None
        self._counted = neuron_seen.Counted()
        self._programs = 0
        self._doubts: tuple[str, ...] = ()
        self._graph = self._broken = False
        self._peak_known = True

    def join(self, rank: int, world: int) -> None:
        """The core of the rank's number. The runtime is left alone: the process group starts it, and refuses else."""
        super().join(rank, world)
        self.index = rank
        self._load()
        import torch.distributed as dist

        if self.collectives not in dist.Backend.backend_list:  # betas register them in a module of their own
            try:
                import torch_neuronx.distributed.backend  # noqa: F401
            except Exception as error:  # likewise
                raise MissingHardware(f"torch_neuronx has no collectives: {_one_line(error)}") from None

    def start(self) -> None:
        """Pin what changes numbers or times, take the one core, and see that it is no CPU.

        Raises:
            MissingHardware: the native product does not load, or gives no device.
        """
        if self._cache is None:
            self._load()
        try:
            self._torch.neuron.init()
            self._torch.neuron.synchronize()
            there = self._torch.neuron.device_count()
        except Exception as error:  # the extension raises whatever it likes
            raise MissingHardware(f"{self.address} does not start: {_one_line(error)}") from None
        if there != 1:
            raise MissingHardware(f"{self.address} was to be one device, the runtime gives {there}: report it")
        self.guards()

    def _load(self) -> None:
        """Import the native product, with everything set that it reads then. Starts no runtime."""
        there = self.stack
        self._cache = Cache(os.environ)
        if locks := self._cache.locks():
            print(f"{len(locks)} locks of compilers, {locks[0]} the first: if none compiles now, a killed one left "
                  "them, and the next waits for them: remove them", file=sys.stderr)  # fmt: skip
        os.environ.update(self._cache.variables)
        os.environ.update(neuron_pins.pinned(there.settings, os.environ))
        os.environ.update({LNC: str(there.lnc), VISIBLE: str(self.core)})
        try:
            import torch  # which loads the product, where it loads backends by itself
            import torch_neuronx

            found = torch._C._get_privateuse1_backend_name()
            # Without these no fallback or compilation is seen, so that no number could be trusted.
            needed = (self._torch.neuron.init, self._torch.neuron.device_count, self._torch.neuron.synchronize,
                      self._torch.neuron.get_dynamo_metrics, torch_neuronx.get_fallback_ops,
                      torch_neuronx.get_executed_ops, torch_neuronx.clear_op_tracking)  # fmt: skip
        except Exception as error:  # without a device importing was seen to raise
            raise MissingHardware(f"torch_neuronx does not load: {_one_line(error)}") from None
        if found != self.name or not all(map(callable, needed)):
            raise MissingHardware(f"torch_neuronx registers the device {found!r}, expected {self.name!r}: "
                                  "is another product installed beside it?")  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Versions, what is pinned, and what the product was told by."""
        there = self.stack
        software = there.software
        return {
            "generation": software.product.value,
            "evidence": software.evidence,
            "torch_neuronx": software.release,
            "neuronx_cc": software.neuronx_cc,
            "nki": software.nki,
            "driver": there.driver,
            "driver_file": there.driver_file,
            "runtime": there.runtime,
            "chips": len(there.chips),
            "variables": scrubbed(),
        }

    @property
    def _torch(self) -> Any:
        """``torch``, which has the module ``neuron`` once the native product is imported."""
        import torch

        return torch

    @property
    def device(self) -> torch.device:
        """The one core that this process sees. Without a number: a rank may not name one."""
        import torch

        return torch.device(self.name)

    def synchronize(self) -> None:
        """Wait for all streams. Raises what failed since, in whatever operation."""
        self._torch.neuron.synchronize()

    def time(self, run: Callable[[int], object], iterations: int, first: int, ring: list[Any]) -> Timing:
        """The wall round a batch and one wait behind it; the device has nothing to do when the clock starts."""
        order = [i % len(ring) for i in range(first, first + iterations)]
        with no_collection():
            self.synchronize()
            began = perf_counter()
            for slot in order:
                ring[slot] = None  # its memory goes to the next result, so that a hot case has one
                ring[slot] = run(slot)
            enqueued = perf_counter() - began
            self.synchronize()
            total = perf_counter() - began
        return Timing(total_s=total, enqueue_s=enqueued, began=began)

    def time_bracketed(
        self,
        before: Callable[[int], object],
        run: Callable[[int], object],
        iterations: int,
        first: int,
        ring: list[Any],
    ) -> Timing:
        """The wall round each call and a wait behind it, which is a part of its time."""
        total = enqueued = 0.0
        with no_collection():
            for i in range(first, first + iterations):
                slot = i % len(ring)
                before(slot)
                ring[slot] = None
                self.synchronize()
                began = perf_counter()
                ring[slot] = run(slot)
                enqueued += perf_counter() - began
                self.synchronize()
                total += perf_counter() - began
        return Timing(total_s=total, enqueue_s=enqueued)

    def reset_peak_memory(self) -> None:
        """Of the allocator, which is behind by what is not done yet. Where it cannot, no peak is told."""
        self.synchronize()
        self._peak_known = self._kept(lambda: self._torch.neuron.reset_peak_memory_stats())

    def held_memory(self) -> float:
        """Of tensors, by the allocator."""
        return self._memory("current") or 0.0

    def peak_memory(self) -> float | None:
        """Of tensors, by the allocator; compiled programs and the runtime's buffers are not in it."""
        return self._memory("peak") if self._peak_known else None

    def _memory(self, moment: neuron_memory.Moment) -> float | None:
        self.synchronize()
        try:
            found = neuron_memory.allocated(self._torch.neuron.memory_stats(), moment)
        except Exception as error:  # of one build every call failed
            print(f"torch.neuron.memory_stats: {_one_line(error)}", file=sys.stderr)
            return None
        return found

    def _kept(self, call: Callable[[], object]) -> bool:
        """Whether a call worked without which times are as good: one that a build lacks costs no row."""
        try:
            call()
        except Exception as error:  # likewise
            print(f"torch.neuron: {_one_line(error)}", file=sys.stderr)
            return False
        return True

    def release(self) -> None:
        """Have the allocator give back what nobody holds."""
        self._graph = False  # what was compiled is closed, or has failed
        gc.collect()
        if not self._broken:
            self._kept(lambda: self._torch.neuron.empty_cache())

    def compile(self, function: Callable[..., Any], *, autotune: bool = False) -> Callable[..., Any]:
        """Through the stack's own backend of Dynamo; it refuses dynamic shapes, and has no other mode."""
        import torch

        self._graph = True
        return torch.compile(function, backend="neuron", dynamic=False)

    def empty_compiler_cache(self) -> None:
        """Programs stay for later runs: only what comes from now on is counted, see :meth:`cold`."""
        self._programs = self._cache.programs() if self._cache else 0

    def cold(self) -> bool:
        """Whether the compiler wrote a program since; else all that was needed was found on disk or in memory."""
        self.synchronize()  # programs are compiled behind the call that needs them
        return self._cache is not None and self._cache.programs() > self._programs

    def forget_compiled(self) -> None:
        """Drop Dynamo's code; programs stay, also in memory."""
        inductor.forget()

    def guards(self) -> dict[str, int]:
        """Compilations by three counts, of which the largest counts; CPU fallbacks since the last look.

        The stack names each operation that fell back once, however often it did, so its list is emptied at every look.
        """
        import torch_neuronx

        self.synchronize()
        dynamo = inductor.counts()
        programs = self._cache.programs() if self._cache else 0
        graphs = len(self._torch.neuron.get_dynamo_metrics())
        fallbacks = torch_neuronx.get_fallback_ops()
        torch_neuronx.clear_op_tracking()
        compilations = self._counted.compiled(programs, graphs, dynamo["compilations"])
        return {
            "compilations": compilations,
            "graph_breaks": dynamo["graph_breaks"],
            "cpu_fallbacks": self._counted.fell_back(fallbacks),
        }

    def observed(self, call: Callable[[], object]) -> str:
        """Operations that one call runs on the device, by the stack's own list; ``neff`` first where it is a program.

        What fell back to the CPU stands last, as ``cpu:NAME``. What makes it slow is kept for :meth:`doubts`.
        """
        import torch_neuronx

        self.guards()
        graph = self._graph
        self.noted(call)
        self.synchronize()
        executed, fallbacks = torch_neuronx.get_executed_ops(), torch_neuronx.get_fallback_ops()
        kernels = filter(neuron_seen.kernel, self._doubts)
        path = neuron_seen.path(executed, fallbacks, graph=graph, kernels=kernels)
        return f"{path} nki" if not graph and neuron_seen.FUSED in self._doubts else path

    def noted(self, call: Callable[[], object]) -> None:
        """Look at each operation, but of compiled calls, which would then run as what they were compiled from.

        Nor of those of several ranks, whose collectives are not operations of one device.
        """
        graph, self._graph = self._graph, False  # the next session may be an eager one
        if graph or self.world > 1:
            self._doubts = ()
            call()
        else:
            self._doubts = neuron_seen.called(call)

    def doubts(self) -> tuple[str, ...]:
        """Slow indices, attention that is not fused."""
        found, self._doubts = self._doubts, ()
        return tuple(flag for flag in found if flag != neuron_seen.FUSED and not neuron_seen.kernel(flag))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Error counters before and after, neuron-monitor between."""
        there, chip = self.stack, self.stack.chip_of(self.core)
        if chip is None:
            yield
            return
        own = self._cores(self.world)
        self._watch = Watch(chip, there.physical(self.core), neuron_cores.live(there.driver), own)
        first = next(core for core in own if there.chip_of(core) == chip)
        self._watch.tells_of_chip = self.core == first  # its ranks would add up what they all see
        self._watch.start()
        try:
            yield
        finally:
            self._watch.stop()

    def health(self, during: Sequence[tuple[float, float]]) -> Health:
        """What was counted over all samples; clocks, heat and throttling stay unknown."""
        return self._watch.health() if self._watch else Health()

    def is_out_of_memory(self, error: BaseException) -> bool:
        """The allocator's, the runtime's and Python's ways to say so."""
        return neuron_errors.out_of_memory(error)

    def poisoned(self, error: BaseException) -> bool:
        """A compilation or an execution that failed may come up again in the next operation, whatever that is."""
        if not self._broken and not neuron_errors.lasting(error):
            try:
                self.synchronize()
                return False
            except Exception as pending:
                print(f"pending: {_one_line(pending)}", file=sys.stderr)
        self._broken = True
        return True


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:SHOWN] or type(error).__name__


BACKEND = Neuron()
