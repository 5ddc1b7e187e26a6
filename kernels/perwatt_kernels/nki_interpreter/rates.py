"""How long an instruction takes, from the documented figures in ``hardware``. Times in ns.

- Tensor engine: one multiplication starts every max(columns of the moving operand, 64) cycles, times four for float32;
  the next stationary operand is loaded meanwhile, four times as fast (v2 guide, tensor engine).
- Vector, Scalar, GpSimd: one cycle for each element of a partition and tile read, at least 64 (v2 guide; shared).
  For GpSimd no page gives a rule; that one is *assumed* there too.
- Whoever waits for a result waits 100 cycles more than it takes to stream through the engine (v2 guide, vector).
- DMA: sixteen engines share the pieces of all transfers; each has its rate and a cost for every piece.
"""

from __future__ import annotations

from perwatt_kernels.nki_interpreter.hardware import Generation
from perwatt_kernels.nki_interpreter.stream import Instruction, Lanes, Product, Transfer

SYNC_CLOCK_GHZ = 1.2  # of what only synchronizes: that of GpSimd, which core_barrier runs on (isa core_barrier)


def clock_ghz(engine: str, gen: Generation) -> float:
    """Clock of an engine; of the DMA engines 1, since they are told in ns."""
    clocks = {name: getattr(gen, name).clock_ghz for name in ("tensor", "vector", "scalar", "gpsimd")}
    return float(clocks.get(engine, 1.0 if engine == "dma" else SYNC_CLOCK_GHZ))


def product_cycles(work: Product, gen: Generation) -> int:
    """From one multiplication to the next: by the moving operand, or by loading the next stationary one."""
    engine = gen.tensor
    return max(work.moving, engine.least_interval, load_cycles(work, gen)) * work.passes


def load_cycles(work: Product, gen: Generation) -> int:
    """Of a stationary operand."""
    return -(-work.stationary // gen.tensor.load_speedup)


def engine_cycles(instruction: Instruction, gen: Generation) -> float:
    """Cycles in which an engine does nothing else."""
    work = instruction.work
    if isinstance(work, Product):
        return product_cycles(work, gen)
    if isinstance(work, Lanes):
        least: int = getattr(gen, instruction.engine).least_interval
        return max(work.cycles, least) + work.extra
    return 0.0


def transfer_ns(work: Transfer, gen: Generation) -> float:
    """Time that one DMA engine alone would need, all chips' cores at work; to be divided among engines."""
    each = gen.dma.bytes_per_ns
    if work.loaded or work.stored:
        each = gen.memory_gb_per_s / gen.dma.engines
    return work.bytes / (each * work.rate) + work.pieces * gen.dma.packet_ns
