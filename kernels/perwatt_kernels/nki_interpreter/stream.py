"""The stream of instructions that a kernel issues: what each does, on which engine, and what it waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

ENGINES = ("tensor", "vector", "scalar", "gpsimd", "dma", "sync")


class Access(NamedTuple):
    """An operand: memory region, name of its allocation, format and shape."""

    region: str
    name: str
    dtype: str
    shape: tuple[int, ...]


class Product(NamedTuple):
    """Work of the tensor engine.

    Attributes:
        moving: columns of the moving operand.
        stationary: columns of the stationary operand.
        passes: times that the operands go through the array.
        multiply_adds: useful ones; 0 for a transpose.
    """

    moving: int
    stationary: int
    passes: int
    multiply_adds: int


class Lanes(NamedTuple):
    """Work of a vector, scalar or GpSimd engine.

    Attributes:
        cycles: elements of a partition, times tiles read, over the speed of the engine's mode.
        extra: cycles of a second instruction, as one that reads an accumulator.
    """

    cycles: float
    extra: int = 0


class Transfer(NamedTuple):
    """Work of the DMA engines.

    Attributes:
        bytes: moved, counted at the larger side.
        pieces: contiguous ones; each is a descriptor.
        loaded: bytes read from HBM.
        stored: bytes written to HBM.
        engines: of the core's that have a part of it.
        rate: share of their speed that this kind of transfer reaches.
    """

    bytes: int
    pieces: int
    loaded: int
    stored: int
    engines: int
    rate: float = 1.0


Work = Product | Lanes | Transfer | None


@dataclass(slots=True)
class Instruction:
    """One instruction.

    Attributes:
        index: place in the stream of its core.
        engine: that it runs on.
        op: as NKI calls it.
        work: what it costs; None where it only synchronizes.
        reads: operands.
        writes: results.
        after: instructions of its core that it waits for.
        ports: memories that it uses, for engines that share them.
    """

    index: int
    engine: str
    op: str
    work: Work
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    after: tuple[int, ...]
    ports: tuple[str, ...] = ()
