"""Transfers between HBM and SBUF: ``dma_copy`` and ``dma_transpose``."""

from __future__ import annotations

from typing import Any

import numpy as np

from perwatt_kernels.nki_interpreter.errors import reject
from perwatt_kernels.nki_interpreter.formats import FORMATS, narrowed, widened
from perwatt_kernels.nki_interpreter.isa.enums import dge_mode as modes
from perwatt_kernels.nki_interpreter.isa.enums import engine as engines
from perwatt_kernels.nki_interpreter.isa.enums import oob_mode as bounds
from perwatt_kernels.nki_interpreter.isa.operands import put_raw
from perwatt_kernels.nki_interpreter.machine import Core, Handle, current
from perwatt_kernels.nki_interpreter.stream import Transfer
from perwatt_kernels.nki_interpreter.tensor import NkiTensor

PLACES = ("sbuf", "private_hbm", "shared_hbm")
AXES = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}  # that a transposing transfer can do (isa dma_transpose)


def dma_copy(
    dst: Any, src: Any, priority: int | None = None, oob_mode: bounds = bounds.error, dge_mode: modes = modes.unknown,
    engine: engines = engines.unknown, name: str | None = None,
) -> Handle:  # fmt: skip
    """``dst = src`` between HBM and SBUF; other formats through float32 (isa dma_copy).

    Raises:
        Rejected: placement, sizes, priority or way of making descriptors that the page excludes.
    """
    core, where = current(), "dma_copy"
    for role, one in (("dst", dst), ("src", src)):
        _place(f"{where}: {role}", one, PLACES)
    if dst.size != src.size:
        raise reject(f"{where}: dst", f"{dst.size} elements", f"{src.size}, as src", f"isa {where}, tile size")
    if dst.on_chip and src.on_chip and dst.partitions != src.partitions and dst.shape != src.shape:
        raise reject(f"{where}: dst", f"shape {dst.shape}", f"{src.shape}, as src in sbuf", f"isa {where}")
    if "packed" in (FORMATS[dst.dtype].kind, FORMATS[src.dtype].kind) and dst.dtype != src.dtype:
        raise reject(f"{where}: dst", dst.dtype, f"{src.dtype}, as packed formats have no casts", f"isa {where}")
    _descriptors(where, core, priority, dge_mode)
    if engine is not engines.unknown and (dge_mode is not modes.hwdge or engine not in (engines.sync, engines.scalar)):
        raise reject(f"{where}: engine", engine.name, "sync or scalar, with dge_mode hwdge", f"isa {where}")

    def compute() -> None:
        values = src.read(f"{where}: src").reshape(-1)
        put_raw(dst, values if src.dtype == dst.dtype else narrowed(widened(values, src.dtype), dst.dtype))

    return core.issue("dma", where, (src,), (dst,), transfer(dst, src), compute)


def transfer(dst: NkiTensor, src: NkiTensor, rate: float = 1.0, pieces: int = 0) -> Transfer:
    """What moving one tile into another costs: a descriptor for every stretch that is contiguous on both sides."""
    run = min(dst.run(), src.run())
    spread = max(one.partitions if one.on_chip else 128 for one in (dst, src))
    if dst.on_chip or src.on_chip:
        spread = max(one.partitions for one in (dst, src) if one.on_chip)
    return Transfer(
        bytes=dst.size * max(dst.size_bytes, src.size_bytes),
        pieces=pieces or dst.size // run,
        loaded=0 if src.on_chip else src.size * src.size_bytes,
        stored=0 if dst.on_chip else dst.size * dst.size_bytes,
        engines=min(16, -(-spread // 8)),  # an engine has eight partitions (dma overview, performance considerations)
        rate=rate,
    )


def _place(where: str, found: Any, regions: tuple[str, ...]) -> None:
    if not isinstance(found, NkiTensor):
        raise reject(where, type(found).__name__, "a tensor", "isa")
    if found.buffer not in regions:
        raise reject(where, f"a tensor in {found.buffer}", f"one in {' or '.join(regions)}", "isa, memory types")


def _descriptors(where: str, core: Core, priority: int | None, mode: modes) -> None:
    if mode is modes.hwdge and core.generation.number < 3:
        raise reject(f"{where}: dge_mode", f"hwdge on {core.generation.name}", "gen3 or newer", f"isa {where}")
    if priority is not None and (core.generation.number < 4 or priority not in range(4)):
        raise reject(f"{where}: priority", f"{priority} on {core.generation.name}", "0 to 3 on gen4", f"isa {where}")


def dma_transpose(
    dst: Any, src: Any, axes: tuple[int, ...] | None = None, priority: int | None = None,
    dge_mode: modes = modes.unknown, oob_mode: bounds = bounds.error, name: str | None = None,
) -> Handle:  # fmt: skip
    """Transpose while moving from HBM or SBUF into SBUF (isa dma_transpose; rates: v3 guide, DMA transpose).

    Raises:
        Rejected: generation, axes, placement, formats or sizes that the page excludes.
    """
    core, where = current(), "dma_transpose"
    if not core.generation.dma.transpose_rate:
        raise reject(where, core.generation.name, "gen3 or newer", "v3 guide, DMA transpose")
    _place(f"{where}: src", src, PLACES)
    _place(f"{where}: dst", dst, ("sbuf",))
    order = AXES.get(src.ndim)
    if order is None or (axes is not None and tuple(axes) != order):
        raise reject(f"{where}: axes", f"{axes} of {src.ndim}", f"one of {list(AXES.values())}", f"isa {where}")
    if dst.dtype != src.dtype or src.size_bytes not in (2, 4):
        raise reject(f"{where}: dst", f"{dst.dtype} of {src.dtype}", "the same 2 or 4 bytes", "v3 guide, DMA transpose")
    wanted = tuple(src.shape[axis] for axis in order)
    if dst.shape != wanted:
        raise reject(f"{where}: dst", f"shape {dst.shape}", f"{wanted}", f"isa {where}")
    _descriptors(where, core, priority, dge_mode)
    if dge_mode not in (modes.unknown, modes.hwdge):
        raise reject(f"{where}: dge_mode", dge_mode.name, "unknown or hwdge", f"isa {where}, direct transpose")
    if dge_mode is modes.hwdge:
        _hardware(where, src)

    def compute() -> None:
        put_raw(dst, np.ascontiguousarray(src.read(f"{where}: src").transpose(order)))

    dma = core.generation.dma
    rate = dma.transpose_rate_sbuf if src.on_chip else dma.transpose_rate
    work = transfer(dst, src, rate, pieces=max(1, dst.size * dst.size_bytes // dma.full_packet))
    return core.issue("dma", where, (src,), (dst,), work, compute)


def _hardware(where: str, src: NkiTensor) -> None:
    """Limits of a transpose whose descriptors the hardware makes."""
    rows = (16,) if src.ndim == 2 else (1, 2, 4, 8, 16)
    whole = src.ndim == 2 or src.shape[0] * src.shape[-2] % 16 == 0
    if src.shape[0] not in rows or not whole or src.shape[-1] > 128 or src.size_bytes != 2:
        found = f"{src.dtype} {src.shape}"
        raise reject(f"{where}: src", found, "2 bytes, 16 rows, at most 128 last", f"isa {where}, direct transpose")
