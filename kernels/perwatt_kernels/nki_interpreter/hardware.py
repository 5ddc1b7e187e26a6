"""What AWS documents about a NeuronCore of each generation: sizes, limits, clocks, costs, each with its page.

Pages are those of the AWS Neuron documentation for SDK 2.32 (NKI 0.6), by their paths below ``nki/``:

- ``v2 guide``: guides/architecture/trainium_inferentia2_arch
- ``v3 guide`` and ``v4 guide``: guides/architecture/trainium2_arch, trainium3_arch
- ``isa``: the API reference of the instruction named, api/nki/isa
- ``shared``: api/nki.api.shared, operators and engine selection
- ``dma guide``: deep-dives/nki-dma-bandwidth-guide; ``dma overview``: get-started/about/nki-dma-overview
- ``perf guide``: deep-dives/nki_perf_guide
- ``explorer``: tools/neuron-explorer, throttling
- ``chip``: about-neuron/arch/neuron-hardware/trainium, trainium2, trainium3

Figures were written down before any kernel was, and are not fitted to one. What no page says is marked *derived* or
*assumed*, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

KIB = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorEngine:
    """The systolic array. Cycles are its own.

    Attributes:
        clock_ghz: of the array.
        rows: processing elements along the contraction (v2 guide, tensor engine).
        columns: processing elements along the stationary operand's free axis.
        least_interval: shortest time from one multiplication to the next (v2 guide: 64 on v2; *assumed* later).
        load_speedup: how much faster a stationary tile is loaded than one of its size multiplied (v2 guide; "up to").
        fp32_passes: multiplications of float32 take so many times those of 16-bit formats (v2 guide).
        fp32_transpose_passes: the same for transposes of float32; transpose mode halves it from v3 on (v3 guide).
        double_row: two rows of 8-bit floats are multiplied at once (v3 guide, double FP8).
        packed_depth: how many elements of an MX operand each processing element multiplies at once (v4 guide); 0 none.
        row_tiles: heights that the array can be cut into (isa nc_matmul, tiling mode).
        moving_free: most columns of the moving operand by the result's format (isa nc_matmul, tile size).
        results: formats that a product can be written in (isa nc_matmul, data types).
        exact_transpose: a transpose leaves NaN and infinities where they are (v3 guide, built-in transpose).
        ramp_us: time in which the array goes from half of its rate to all of it after rest (explorer); 0 where no page
            says so.
    """

    clock_ghz: float
    rows: int = 128
    columns: int = 128
    least_interval: int = 64
    load_speedup: int = 4
    fp32_passes: int = 4
    fp32_transpose_passes: int = 4
    double_row: bool = False
    packed_depth: int = 0
    row_tiles: tuple[int, ...] = (64, 128)
    moving_free: MappingProxyType[str, int] = field(default_factory=lambda: MappingProxyType({"float32": 512}))
    results: tuple[str, ...] = ("float32",)
    exact_transpose: bool = True
    ramp_us: float = 3.0

    @property
    def products_per_cycle(self) -> int:
        """Multiply-adds of 16-bit formats that start in a cycle."""
        return self.rows * self.columns


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneEngine:
    """Vector, Scalar or GpSimd engine: 128 lanes, one for each partition.

    Attributes:
        clock_ghz: of the lanes.
        least_interval: shortest time from one instruction to the next (shared: about 64).
        fast_copy: speed of a copy or an operation with a scalar, 16-bit, contiguous, all in SBUF (v3 guide, vector
            performance mode; v4 guide, scalar performance mode).
        half_copy: the same where one side is in PSUM, or the innermost elements are not contiguous.
        fast_pair: speed of an operation on two 16-bit tiles in SBUF.
        read_accumulator: cycles to write a sum that the engine kept (v2 guide: about 64 on v2; *assumed* later).
    """

    clock_ghz: float
    least_interval: int = 64
    fast_copy: int = 1
    half_copy: int = 1
    fast_pair: int = 1
    read_accumulator: int = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Dma:
    """The engines that move data between HBM and SBUF.

    Attributes:
        engines: of one core (dma guide).
        bytes_per_ns: of one engine (dma guide).
        start_ns: from asking for a transfer to its first byte (dma guide: about 1300; v3 guide: about 600 where the
            hardware makes the descriptors).
        full_packet: contiguous bytes of a partition from which on an engine runs at its rate (dma guide).
        packet_ns: cost of one contiguous piece beside its bytes. *Derived*: dma guide has 2 KiB approach the rate,
            512 B not nearly; an engine at 23 B/ns with 20 ns a piece reaches 90 % at 4 KiB, 82 % at 2 KiB, 53 % at
            512 B.
        transpose_rate: share of the rate that a transposing transfer from HBM reaches (v3 guide); 0 where it cannot.
        transpose_rate_sbuf: the same from SBUF to SBUF.
    """

    bytes_per_ns: float
    engines: int = 16
    start_ns: float = 1300.0
    full_packet: int = 4 * KIB
    packet_ns: float = 20.0
    transpose_rate: float = 0.0
    transpose_rate_sbuf: float = 0.0

    @property
    def rate_gb_per_s(self) -> float:
        """Of all engines of a core."""
        return self.engines * self.bytes_per_ns


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """One NeuronCore, and what it shares with its neighbours.

    Attributes:
        name: as NKI calls it (isa nc_version).
        core: as the architecture guides call it.
        targets: names that select it (``NEURON_PLATFORM_TARGET_OVERRIDE``; api/nki jit).
        partitions: of SBUF and PSUM (v2 guide).
        sbuf_partition: bytes (v2, v3, v4 guide). The compiler keeps an unknown part of it to itself.
        psum_bank: bytes of a bank in a partition: 512 float32 (v2 guide).
        psum_banks: of a partition (v2 guide).
        sbuf_free: most elements of a partition that an instruction of a lane engine takes in SBUF (v2 guide).
        psum_free: the same in PSUM.
        dimensions: free axes of an operand (v2 guide, access by compute engines).
        dependent: cycles that an instruction takes longer when it waits for the one before it (v2 guide, vector).
        lnc: numbers of cores that one kernel can be launched on (get-started/about/lnc); v2 has no LNC (chip).
        hbm_gb_per_s: of a chip (chip page; the NKI guides have 3000 for v3 and 4700 for v4).
        cores_per_chip: (chip).
        shared_ports: engines that exclude each other, by the memory (v2 guide, data movement; lifted in v3 guide).
    """

    name: str
    core: str
    targets: tuple[str, ...]
    tensor: TensorEngine
    vector: LaneEngine
    scalar: LaneEngine
    gpsimd: LaneEngine
    dma: Dma
    sbuf_partition: int
    hbm_gb_per_s: float
    cores_per_chip: int
    lnc: tuple[int, ...]
    partitions: int = 128
    psum_bank: int = 2 * KIB
    psum_banks: int = 8
    sbuf_free: int = 64 * KIB
    psum_free: int = 4 * KIB
    dimensions: int = 4
    dependent: int = 100
    shared_ports: MappingProxyType[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def number(self) -> int:
        """2, 3 or 4."""
        return int(self.name[-1])

    @property
    def psum_partition(self) -> int:
        """Bytes of PSUM in a partition."""
        return self.psum_bank * self.psum_banks

    @property
    def memory_gb_per_s(self) -> float:
        """Of one core while all cores of the chip work: its DMA engines or its share of HBM, the lesser."""
        return min(self.dma.rate_gb_per_s, self.hbm_gb_per_s / self.cores_per_chip)

    def starts(self, count: int) -> tuple[int, ...]:
        """Partitions that an operand of so many partitions may start at (v2 guide, access by compute engines)."""
        if count > 64:
            return (0,)
        return (0, 64) if count > 32 else (0, 32, 64, 96)


V2 = Generation(
    name="gen2", core="NeuronCore-v2", targets=("trn1", "inf2", "gen2"),
    tensor=TensorEngine(clock_ghz=2.8, exact_transpose=False, ramp_us=0.0),  # clocks: v2 guide, table of engines
    vector=LaneEngine(clock_ghz=1.12), scalar=LaneEngine(clock_ghz=1.4), gpsimd=LaneEngine(clock_ghz=1.4),
    dma=Dma(bytes_per_ns=17.0),
    sbuf_partition=192 * KIB, hbm_gb_per_s=820.0, cores_per_chip=2, lnc=(1,),
    shared_ports=MappingProxyType({"sbuf": ("vector", "gpsimd"), "psum": ("vector", "scalar")}),
)  # fmt: skip
V3 = Generation(
    name="gen3", core="NeuronCore-v3", targets=("trn2", "gen3"),
    tensor=TensorEngine(  # v3 guide, table of engines; double FP8; built-in transpose
        clock_ghz=2.4, double_row=True, row_tiles=(32, 64, 128), fp32_transpose_passes=2,
    ),
    vector=LaneEngine(clock_ghz=0.96, fast_copy=4, half_copy=2, fast_pair=2),
    scalar=LaneEngine(clock_ghz=1.2), gpsimd=LaneEngine(clock_ghz=1.2),
    dma=Dma(bytes_per_ns=23.0, start_ns=600.0, transpose_rate=0.9, transpose_rate_sbuf=0.5),
    sbuf_partition=224 * KIB, hbm_gb_per_s=2900.0, cores_per_chip=8, lnc=(1, 2),
)  # fmt: skip
V4 = Generation(
    name="gen4", core="NeuronCore-v4", targets=("trn3", "gen4"),
    tensor=TensorEngine(  # v4 guide, table of engines; MX matmul; BF16 results
        clock_ghz=2.4, double_row=True, packed_depth=4, row_tiles=(32, 64, 128), fp32_transpose_passes=2,
        moving_free=MappingProxyType({"float32": 4096, "bfloat16": 8192}), results=("float32", "bfloat16"),
    ),
    vector=LaneEngine(clock_ghz=1.2, fast_copy=4, half_copy=2, fast_pair=2),
    scalar=LaneEngine(clock_ghz=1.2, fast_copy=2, half_copy=2),
    gpsimd=LaneEngine(clock_ghz=1.2),
    dma=Dma(bytes_per_ns=33.0, start_ns=600.0, transpose_rate=0.9, transpose_rate_sbuf=0.5),  # rates: as v3, *assumed*
    sbuf_partition=256 * KIB, hbm_gb_per_s=4900.0, cores_per_chip=8, lnc=(1, 2),
)  # fmt: skip
GENERATIONS = (V2, V3, V4)

RECIPROCAL_CYCLES = 8  # for an element on the vector engine (shared, engine selection)
RSQRT_CYCLES = 4  # for an element on GpSimd, against one on the scalar engine (shared, engine selection)
FAST_EXP = 4  # elements of `exponential` on v4's vector engine in the time of one `activation` (v4 guide)
QUANTIZE_ELEMENTS = 4  # elements of a partition that `quantize_mx` does in a cycle (v4 guide)
FAR_STRIDE = 16  # bytes between neighbours above which an operand streams at half rate (v2 guide, access pattern)
INDEX_LIMIT = 2**24  # of `range_select` (isa range_select)
FP32_LOWEST = -3.4028235e38  # the only fill of `range_select` (isa range_select)
SCALE_GROUP = (8, 4)  # partitions and packed elements that share an MX scale (isa nc_matmul_mx)
EXCHANGE_BYTES = MappingProxyType(
    {4: 1024, 2: 512, 1: 256}
)  # of a partition by element size, GpSimd's DMA (isa sendrecv)


def generation(target: str) -> Generation:
    """The generation that a target names, such as ``trn2`` or ``gen3``.

    Raises:
        ValueError: there is none of that name.
    """
    for found in GENERATIONS:
        if target.lower() in found.targets:
            return found
    names = ", ".join(name for found in GENERATIONS for name in found.targets)
    raise ValueError(f"target: found {target!r}, expected one of {names}")
