"""The tensor engine: ``nc_matmul`` and ``nc_transpose``."""

from __future__ import annotations

from typing import Any

import numpy as np

from perwatt_kernels.nki_interpreter.errors import Rejected, reject
from perwatt_kernels.nki_interpreter.formats import FP8, WIDE, Array, widened
from perwatt_kernels.nki_interpreter.isa.enums import engine as engines
from perwatt_kernels.nki_interpreter.isa.enums import matmul_perf_mode
from perwatt_kernels.nki_interpreter.isa.operands import chosen, put, put_raw, rows, tile
from perwatt_kernels.nki_interpreter.machine import Core, Handle, current
from perwatt_kernels.nki_interpreter.storage import NEVER, PRODUCT, WRITTEN
from perwatt_kernels.nki_interpreter.stream import Lanes, Product
from perwatt_kernels.nki_interpreter.tensor import NkiTensor

PAGE = "isa nc_matmul"
VECTOR_TRANSPOSE = 32  # most rows and columns that the vector engine transposes (isa nc_transpose)


def nc_matmul(
    dst: Any, stationary: Any, moving: Any, is_stationary_onezero: bool = False, is_moving_onezero: bool = False,
    is_transpose: bool = False, accumulate: bool | None = None, tile_position: tuple[int, ...] = (),
    tile_size: tuple[int, ...] = (), perf_mode: matmul_perf_mode = matmul_perf_mode.none, name: str | None = None,
) -> Handle:  # fmt: skip
    """``dst = stationary.T @ moving`` or ``dst += ..``, both with the contraction on partitions (isa nc_matmul).

    Raises:
        Rejected: placement, format, size, tiling, mode or accumulation that the page excludes.
    """
    core, op = current(), "nc_matmul"
    engine = core.generation.tensor
    tile(f"{op}: stationary", stationary, core, ("sbuf",))
    tile(f"{op}: moving", moving, core, ("sbuf",))
    tile(f"{op}: dst", dst, core, ("psum",))
    double = perf_mode is matmul_perf_mode.double_row
    _formats(core, stationary, moving, double)
    if double:
        _double_row(core, stationary, moving, is_transpose)
    rows_used = _row_tile(op, core, tuple(tile_position), tuple(tile_size))
    if stationary.partitions != moving.partitions or moving.partitions > rows_used:
        found = f"{stationary.partitions} and {moving.partitions} partitions"
        raise reject(f"{op}: operands", found, f"as many in both, at most {rows_used}", f"{PAGE}, tile size")
    m, n = (t.free // (2 if double else 1) for t in (stationary, moving))
    transposes = is_transpose and engine.exact_transpose
    results = (stationary.dtype,) if transposes else engine.results
    if dst.dtype not in results:
        raise reject(
            f"{op}: dst", dst.dtype, f"{' or '.join(results)} on {core.generation.name}", f"{PAGE}, data types"
        )
    result_extent(op, core, dst, m, n)
    passes = 1
    if moving.dtype == "float32":
        passes = engine.fp32_transpose_passes if is_transpose else engine.fp32_passes
    work = Product(n, m, passes, 0 if is_transpose else m * n * moving.partitions * (2 if double else 1))

    def compute() -> None:
        left, right = rows(f"{op}: stationary", stationary), rows(f"{op}: moving", moving)
        if transposes:
            _identity(right)
            put_raw(dst, stationary.values().reshape(left.shape).T, PRODUCT)
            return
        if double:
            left, right = left.reshape(-1, m), right.reshape(-1, n)
        accumulated(op, core, dst, left.T @ right, accumulate)

    return core.issue("tensor", op, (stationary, moving), (dst,), work, compute, accumulates=accumulate is not False)


def _formats(core: Core, stationary: NkiTensor, moving: NkiTensor, double: bool) -> None:
    """Refuse formats, and pairs of them, that cannot be multiplied (isa nc_matmul, data types)."""
    pair = (stationary.dtype, moving.dtype)
    if double:
        known: tuple[str, ...] = ("float8_e4m3", "float8_e5m2")
    else:
        known = ("float8_e4m3", "float8_e5m2", "bfloat16", "float16", *WIDE)
    if core.generation.number >= 4:
        known = (*known, "float8_e4m3fn")
    for role, dtype in zip(("stationary", "moving"), pair, strict=True):
        if dtype not in known:
            raise reject(f"nc_matmul: {role}", dtype, " or ".join(known), f"{PAGE}, data types")
    if (pair[0] in WIDE) != (pair[1] in WIDE):
        raise reject("nc_matmul: operands", " with ".join(pair), "float32 or tfloat32 only with each other", PAGE)
    if {"float8_e4m3", "float8_e4m3fn"} == set(pair):
        raise reject("nc_matmul: operands", " with ".join(pair), "one kind of e4m3", f"{PAGE}, data types")


def _double_row(core: Core, stationary: NkiTensor, moving: NkiTensor, is_transpose: bool) -> None:
    """Refuse what the mode for pairs of 8-bit rows excludes (v3 guide, double FP8)."""
    if not core.generation.tensor.double_row:
        raise reject("nc_matmul: perf_mode", f"double_row on {core.generation.name}", "gen3 or newer", PAGE)
    if is_transpose:
        raise reject("nc_matmul: perf_mode", "double_row with is_transpose", "one of them", "v3 guide, double FP8")
    for role, one in (("stationary", stationary), ("moving", moving)):
        if one.ndim != 3 or one.shape[1] != 2 or one.dtype not in FP8:
            raise reject(
                f"nc_matmul: {role}", f"{one.dtype} {one.shape}", "8-bit floats [k, 2, free]", f"{PAGE}, layout"
            )


def _row_tile(op: str, core: Core, position: tuple[int, ...], size: tuple[int, ...]) -> int:
    """Rows of the array that an instruction uses (isa nc_matmul, tiling mode and parameters)."""
    if not position and not size:
        return core.generation.tensor.rows
    if len(position) != 2 or len(size) != 2:
        raise reject(f"{op}: tile", f"position {position} and size {size}", "both, or neither", f"{PAGE}, tiling mode")
    sizes = core.generation.tensor.row_tiles
    if size[0] not in sizes or size[1] != core.generation.tensor.columns:
        raise reject(f"{op}: tile_size", size, f"({'/'.join(map(str, sizes))}, 128)", f"{PAGE}, tile_size")
    if position[1] != 0 or position[0] % size[0] or not 0 <= position[0] < core.generation.tensor.rows:
        raise reject(
            f"{op}: tile_position", position, f"(a multiple of {size[0]} below 128, 0)", f"{PAGE}, tile_position"
        )
    return size[0]


def result_extent(op: str, core: Core, dst: NkiTensor, m: int, n: int) -> None:
    """Refuse sizes that the array or PSUM cannot take (isa nc_matmul, tile size)."""
    engine, gen = core.generation.tensor, core.generation
    limit = engine.moving_free.get(dst.dtype, gen.psum_bank // dst.size_bytes)
    if m > engine.columns:
        raise reject(f"{op}: stationary", f"{m} columns", f"at most {engine.columns}", f"isa {op}, tile size")
    if n > limit:
        raise reject(f"{op}: moving", f"{n} columns", f"at most {limit} on {gen.name}", f"isa {op}, tile size")
    if (dst.partitions, dst.free) != (m, n):
        raise reject(f"{op}: dst", f"shape {dst.shape}", f"{m} partitions of {n} elements", f"isa {op}, layout")
    first, last = dst.storage.address + dst.box[-1][0], dst.storage.address + dst.box[-1][1]
    if len(dst.box) > 2:  # several free axes: from the first to the last byte of a partition
        steps = dst.storage.strides[1:]
        first, last = (
            dst.storage.address + sum(edge[side] * step for edge, step in zip(dst.box[1:], steps, strict=True))
            for side in (0, 1)
        )
    if gen.number < 4 and first // gen.psum_bank != last // gen.psum_bank:
        found = f"bytes {first} to {last} of a partition"
        raise reject(f"{op}: dst", found, f"one bank of {gen.psum_bank}", "v2 guide, near-memory accumulation in PSUM")


def accumulated(op: str, core: Core, dst: NkiTensor, product: Array, accumulate: bool | None) -> None:
    """Write a product, or add it to what products before it left (isa nc_matmul, accumulation mode).

    Raises:
        Rejected: it adds to what no product wrote.
    """
    marks = dst.marks()
    seen = {NEVER, WRITTEN, PRODUCT} & set(np.unique(marks).tolist())
    adds = accumulate
    if accumulate is None:
        if NEVER in seen and len(seen) > 1:
            raise Rejected(f"{op}: dst: some of it was written before and some not, so accumulate=None has no meaning")
        adds = NEVER not in seen
    if adds:
        if NEVER in seen:
            raise reject(f"{op}: dst", "accumulation onto what was never written", "one with accumulate=False first",
                         f"{PAGE}, accumulation mode")  # fmt: skip
        if WRITTEN in seen and core.generation.number < 4:
            raise reject(f"{op}: dst", "accumulation onto what a copy or memset wrote", "a product before it",
                         f"{PAGE}, accumulation mode: undefined before gen4")  # fmt: skip
        product = product.reshape(dst.shape) + widened(dst.values(), dst.dtype)
    put(dst, product, PRODUCT)


def _identity(found: Array) -> None:
    if found.shape[0] != found.shape[1] or not np.array_equal(found, np.eye(found.shape[0], dtype=np.float32)):
        raise Rejected("nc_matmul: moving: is_transpose needs an identity matrix (isa nc_matmul, transpose mode)")


def nc_transpose(dst: Any, data: Any, engine: engines = engines.unknown, name: str | None = None) -> Handle:
    """``dst = data.T`` of partitions and flattened free axes, on the tensor or vector engine (isa nc_transpose).

    Raises:
        Rejected: placement, format or size that the page excludes for that engine.
    """
    core, op = current(), "nc_transpose"
    tile(f"{op}: data", data, core)
    tile(f"{op}: dst", dst, core)
    small = max(data.partitions, data.free) <= VECTOR_TRANSPOSE
    where = chosen(op, engine, ("tensor", "vector"), "vector" if small else "tensor")
    limit = core.generation.tensor.rows if where == "tensor" else VECTOR_TRANSPOSE
    if where == "tensor" and (data.buffer, dst.buffer) != ("sbuf", "psum"):
        raise reject(f"{op} on tensor", f"{data.buffer} to {dst.buffer}", "sbuf to psum", f"isa {op}, memory types")
    if max(data.partitions, data.free) > limit:
        raise reject(
            f"{op} on {where}: data", f"shape {data.shape}", f"at most [{limit}, {limit}]", f"isa {op}, tile size"
        )
    if dst.dtype != data.dtype:
        raise reject(f"{op}: dst", dst.dtype, data.dtype, f"isa {op}, data types")
    if (dst.partitions, dst.free) != (data.free, data.partitions):
        raise reject(f"{op}: dst", f"shape {dst.shape}", f"({data.free}, {data.partitions})", f"isa {op}, layout")
    if where == "tensor":
        passes = core.generation.tensor.fp32_transpose_passes if data.dtype == "float32" else 1
        work: Product | Lanes = Product(data.partitions, data.free, passes, 0)
    else:
        work = Lanes(data.free)

    def compute() -> None:
        values = data.read(f"{op}: data").reshape(data.partitions, data.free)
        if (
            where == "tensor"
            and not core.generation.tensor.exact_transpose
            and not np.isfinite(values.astype(np.float32)).all()
        ):
            raise reject(f"{op} on tensor", "NaN or infinity on gen2", "finite values", f"isa {op}")
        put_raw(dst, values.T, PRODUCT if where == "tensor" else WRITTEN)

    return core.issue(where, op, (data,), (dst,), work, compute)


__all__ = ["nc_matmul", "nc_transpose"]
