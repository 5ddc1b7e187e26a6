"""When each instruction of a stream runs: engines keep their order, and wait for what they depend on.

What is modelled: one queue for each compute engine, in program order; transfers that begin when their operands are
ready and share the DMA engines, earlier ones in the program first; the memories that engines of gen2 exclude each other
from; the tensor engine's ramp after rest; two cores that wait for each other at barriers and exchanges. What is not:
queues of DMA rings, semaphores, instruction fetch, clashes on PSUM banks, launching the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from perwatt_kernels.nki_interpreter.hardware import Generation
from perwatt_kernels.nki_interpreter.rates import clock_ghz, engine_cycles, load_cycles, transfer_ns
from perwatt_kernels.nki_interpreter.stream import ENGINES, Instruction, Product, Transfer

MEETINGS = ("core_barrier", "sendrecv")  # where cores wait for each other
SLOT_NS = 500.0  # grain in which time of the DMA engines is given out
RAMP_RATE = 0.75  # of the tensor engine on average, from half to all of its rate (explorer, throttling)


class DmaTime:
    """Time of a core's DMA engines, given out from the first moment that a transfer can use."""

    def __init__(self, engines: int) -> None:
        self.engines = engines
        self.used: list[float] = []
        self.next: list[int] = []

    def _open(self, slot: int) -> int:
        """The first slot from here on that has time left."""
        while len(self.used) <= slot + 1:
            self.next.append(len(self.used))
            self.used.append(0.0)
        path = []
        while self.next[slot] != slot:
            path.append(slot)
            slot = self.next[slot]
            while len(self.used) <= slot + 1:
                self.next.append(len(self.used))
                self.used.append(0.0)
        for one in path:
            self.next[one] = slot
        return slot

    def take(self, ready: float, needed: float, engines: int) -> float:
        """When a transfer ends that needs so much time of one engine and can be spread over so many."""
        slot, end = self._open(int(ready // SLOT_NS)), ready
        while needed > 0:
            begin = slot * SLOT_NS
            done = max(self.used[slot], max(ready - begin, 0.0) * self.engines)
            taken = min(needed, self.engines * SLOT_NS - done, engines * SLOT_NS)
            self.used[slot] = done + taken
            needed -= taken
            end = max(begin + self.used[slot] / self.engines, ready)
            if self.engines * SLOT_NS - self.used[slot] < 1e-6:
                self.next[slot] = slot + 1
            slot = self._open(slot + 1)
        return end


@dataclass(slots=True)
class Schedule:
    """Of one core.

    Attributes:
        total_ns: until the last instruction has ended.
        busy_ns: by engine; that of the DMA engines is their mean.
        cycles: by engine.
        count: of instructions, by engine.
    """

    total_ns: float = 0.0
    busy_ns: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ENGINES, 0.0))
    cycles: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ENGINES, 0.0))
    count: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ENGINES, 0))


class CoreTime:
    """One core on its way through its stream."""

    def __init__(self, stream: list[Instruction], gen: Generation) -> None:
        self.stream, self.gen, self.found = stream, gen, Schedule()
        self.dma, self.free = DmaTime(gen.dma.engines), dict.fromkeys(ENGINES, 0.0)
        self.ends: list[float] = []
        self.ports = dict.fromkeys(gen.shared_ports, 0.0)
        self.clocks = {engine: clock_ghz(engine, gen) for engine in ENGINES}
        self.cold = gen.tensor.ramp_us * 1e3  # how long the tensor engine still runs slowly

    def advance(self, met: float | None = None) -> float | None:
        """Run up to where cores meet.

        Args:
            met: when they met at the place that it had come to; None at the first.

        Returns:
            When this core is at the next such place; None at the end.
        """
        for one in self.stream[len(self.ends) :]:
            ready = max((self.ends[index] for index in one.after), default=0.0)
            if one.op in MEETINGS:
                ready = max(ready, self.free[one.engine])
                if met is None:
                    return ready
                ready, met = max(ready, met), None
            self.found.count[one.engine] += 1
            self.ends.append(
                self._transfer(one.work, ready) if isinstance(one.work, Transfer) else self._run(one, ready)
            )
        self.found.total_ns = max(self.ends, default=0.0)
        return None

    def _transfer(self, work: Transfer, ready: float) -> float:
        needed = transfer_ns(work, self.gen)
        self.found.busy_ns["dma"] += needed / self.gen.dma.engines
        return self.dma.take(ready + self.gen.dma.start_ns, needed, work.engines)

    def _run(self, one: Instruction, ready: float) -> float:
        """When the result of a compute engine's instruction can be used."""
        engine, clock, gen = one.engine, self.clocks[one.engine], self.gen
        locks = [memory for memory, engines in gen.shared_ports.items() if engine in engines and memory in one.ports]
        start = max([ready, self.free[engine], *(self.ports[memory] for memory in locks)])
        cycles = engine_cycles(one, gen)
        took = cycles / clock
        if isinstance(one.work, Product):
            start, took = self._product(one.work, start, took)
        self.free[engine] = start + took
        for memory in locks:
            self.ports[memory] = start + took
        self.found.busy_ns[engine] += cycles / clock
        self.found.cycles[engine] += cycles
        return start + took + gen.dependent / clock

    def _product(self, work: Product, start: float, took: float) -> tuple[float, float]:
        """Start and time of a product, with what rest before it costs."""
        ramp, free = self.gen.tensor.ramp_us * 1e3, self.free["tensor"]
        if start > free:  # nothing hides the loading of its stationary operand
            start += load_cycles(work, self.gen) / self.clocks["tensor"]
        if start - free > ramp:
            self.cold = ramp
        if self.cold > 0:
            took /= RAMP_RATE
            self.cold -= took
        return start, took


def schedule(streams: Sequence[list[Instruction]], gen: Generation) -> list[Schedule]:
    """Run the streams of a kernel's cores, which wait for each other where they meet."""
    cores = [CoreTime(stream, gen) for stream in streams]
    places = [core.advance() for core in cores]
    while all(place is not None for place in places):
        met = max(place for place in places if place is not None)
        places = [core.advance(met) for core in cores]
    return [core.found for core in cores]
