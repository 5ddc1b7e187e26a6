"""``tensor_copy`` and ``memset`` within a core."""

from __future__ import annotations

from typing import Any

import numpy as np

from perwatt_kernels.nki_interpreter.errors import reject
from perwatt_kernels.nki_interpreter.formats import FORMATS, narrowed
from perwatt_kernels.nki_interpreter.isa.enums import engine as engines
from perwatt_kernels.nki_interpreter.isa.operands import (
    alike,
    chosen,
    copy_speed,
    no_psum,
    put,
    put_raw,
    rows,
    stream_cycles,
    tile,
)  # fmt: skip
from perwatt_kernels.nki_interpreter.machine import Handle, current
from perwatt_kernels.nki_interpreter.stream import Lanes
from perwatt_kernels.nki_interpreter.tensor import NkiTensor


def tensor_copy(dst: Any, src: Any, engine: engines = engines.unknown, name: str | None = None) -> Handle:
    """``dst = src`` between SBUF and PSUM, bit by bit where formats are equal, else through float32 (isa tensor_copy).

    Raises:
        Rejected: engine, placement or extents that the page excludes.
    """
    core, where = current(), "tensor_copy"
    tile(f"{where}: src", src, core)
    tile(f"{where}: dst", dst, core)
    alike(where, dst, src=src)
    allowed = ("vector", "gpsimd") if core.generation.number < 3 else ("vector", "scalar", "gpsimd")
    on = chosen(where, engine, allowed, "vector")
    if on == "gpsimd":
        no_psum(where, dst, src)

    def compute() -> None:
        if src.dtype == dst.dtype:
            put_raw(dst, src.read(f"{where}: src"))
        else:
            put(dst, rows(f"{where}: src", src))

    work = Lanes(stream_cycles(core.generation, dst, src) / copy_speed(core, on, dst, src))
    return core.issue(on, where, (src,), (dst,), work, compute)


def memset(dst: Any, value: Any, engine: engines = engines.unknown, name: str | None = None) -> Handle:
    """Fill a tile with a constant, on Vector or GpSimd (isa memset).

    Raises:
        Rejected: engine or placement that the page excludes; packed formats with anything but 0.
    """
    core, where = current(), "memset"
    tile(f"{where}: dst", dst, core)
    on = chosen(where, engine, ("vector", "gpsimd"), "vector")
    if on == "gpsimd":
        no_psum(where, dst)
    if isinstance(value, NkiTensor):
        raise reject(f"{where}: value", "a tensor", "a constant", f"isa {where}")
    if FORMATS[dst.dtype].kind == "packed" and value != 0:
        raise reject(f"{where}: value", value, f"0 for {dst.dtype}", f"isa {where}")
    kind = np.int64 if FORMATS[dst.dtype].kind != "float" else np.float32

    def compute() -> None:
        put_raw(dst, np.broadcast_to(narrowed(np.asarray([value], kind), dst.dtype), (dst.size,)))

    return core.issue(on, where, (), (dst,), Lanes(stream_cycles(core.generation, dst)), compute)
