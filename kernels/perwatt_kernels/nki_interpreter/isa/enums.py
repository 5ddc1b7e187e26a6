"""Constants that instructions take (api/nki/isa, config enums)."""

from __future__ import annotations

from enum import Enum


class engine(Enum):
    """Engines of a core."""

    unknown = 0
    tensor = 1
    scalar = 2
    gpsimd = 3
    dma = 4
    vector = 5
    sync = 6


class reduce_cmd(Enum):
    """What an instruction does to the registers that its engine reduces into."""

    idle = 0
    reset = 1
    reduce = 2
    reset_reduce = 3
    load_reduce = 4


class dge_mode(Enum):
    """Who makes the descriptors of a transfer."""

    unknown = 0
    swdge = 1
    hwdge = 2
    none = 3


class oob_mode(Enum):
    """What happens to an index out of bounds."""

    error = 0
    skip = 1


class matmul_perf_mode(Enum):
    """Modes of the tensor engine."""

    none = "none"
    double_row = "double_row"


class nc_version(Enum):
    """Generations."""

    gen2 = 2
    gen3 = 3
    gen4 = 4


class dma_engine(Enum):
    """What moves data between the two cores of a kernel."""

    dma = 1
    gpsimd_dma = 2
