"""When each instruction of a stream runs: engines keep their order, and wait for what they depend on.

What is modelled: one queue for each compute engine, in program order; transfers that begin when their operands are
ready and share the DMA engines, earlier ones in the program first; the memories that engines of gen2 exclude each other
from; the tensor engine's ramp after rest. What is not: queues of DMA rings, semaphores, instruction fetch, clashes on
PSUM banks, the other core, launching the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from perwatt_kernels.nki_interpreter.hardware import Generation
from perwatt_kernels.nki_interpreter.rates import clock_ghz, engine_cycles, load_cycles, transfer_ns
from perwatt_kernels.nki_interpreter.stream import ENGINES, Instruction, Product, Transfer

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


def schedule(stream: list[Instruction], gen: Generation) -> Schedule:
    """Run a stream on one core."""
    found, dma, free = Schedule(), DmaTime(gen.dma.engines), dict.fromkeys(ENGINES, 0.0)
    ends: list[float] = []
    ports = dict.fromkeys(gen.shared_ports, 0.0)
    clocks = {engine: clock_ghz(engine, gen) for engine in ENGINES}
    cold = gen.tensor.ramp_us * 1e3  # how long the tensor engine still runs slowly
    for one in stream:
        engine, work = one.engine, one.work
        ready = max((ends[index] for index in one.after), default=0.0)
        found.count[engine] += 1
        if isinstance(work, Transfer):
            needed = transfer_ns(work, gen)
            found.busy_ns[engine] += needed / gen.dma.engines
            ends.append(dma.take(ready + gen.dma.start_ns, needed, work.engines))
            continue
        start = max(ready, free[engine])
        locks = [memory for memory, engines in gen.shared_ports.items() if engine in engines and memory in one.ports]
        start = max([start, *(ports[memory] for memory in locks)])
        cycles = engine_cycles(one, gen)
        took = cycles / clocks[engine]
        if isinstance(work, Product):
            if start > free[engine]:  # nothing hides the loading of its stationary operand
                start += load_cycles(work, gen) / clocks[engine]
            if start - free[engine] > gen.tensor.ramp_us * 1e3:
                cold = gen.tensor.ramp_us * 1e3
            if cold > 0:
                cold -= took / RAMP_RATE
                took /= RAMP_RATE
        free[engine] = start + took
        for memory in locks:
            ports[memory] = start + took
        found.busy_ns[engine] += cycles / clocks[engine]
        found.cycles[engine] += cycles
        ends.append(start + took + gen.dependent / clocks[engine])
    found.total_ns = max(ends, default=0.0)
    return found
