"""Products of microscaled operands: ``nc_matmul_mx`` and ``quantize_mx`` (v4 guide, quad MXFP8/MXFP4)."""

from __future__ import annotations

from typing import Any

import numpy as np

from perwatt_kernels.nki_interpreter.errors import reject
from perwatt_kernels.nki_interpreter.formats import FORMATS, HALF, Array, unpacked
from perwatt_kernels.nki_interpreter.hardware import QUANTIZE_ELEMENTS, SCALE_GROUP
from perwatt_kernels.nki_interpreter.isa.matmul import _row_tile, accumulated, result_extent
from perwatt_kernels.nki_interpreter.isa.operands import one_format, put_raw, rows, since, tile
from perwatt_kernels.nki_interpreter.machine import Core, Handle, current
from perwatt_kernels.nki_interpreter.storage import WRITTEN
from perwatt_kernels.nki_interpreter.stream import Lanes, Product
from perwatt_kernels.nki_interpreter.tensor import NkiTensor

PACKED = ("float8_e4m3fn_x4", "float8_e5m2_x4", "float4_e2m1fn_x4")
SCALES = ("float8_e8m0fnu", "uint8")
QUADRANT = 32  # partitions; scales lie in the quadrant of their data, at 0, 4, 8 or 12 of it (mxfp-matmul)
LARGEST_EXPONENT = {"float8_e4m3fn_x4": 8, "float8_e5m2_x4": 15}  # (isa quantize_mx, scale calculation)
BIAS = 127


def nc_matmul_mx(
    dst: Any, stationary: Any, moving: Any, stationary_scale: Any, moving_scale: Any,
    tile_position: tuple[int, ...] | None = None, tile_size: tuple[int, ...] | None = None,
    accumulate: bool | None = None, name: str | None = None,
) -> Handle:  # fmt: skip
    """``dst = (stationary x scale).T @ (moving x scale)`` of packed elements (isa nc_matmul_mx).

    Raises:
        Rejected: generation, placement, format, size or layout of scales that the page excludes.
    """
    core, op = current(), "nc_matmul_mx"
    since(op, core, 4)
    tile(f"{op}: dst", dst, core, ("psum",))
    one_format(f"{op}: dst", dst, core.generation.tensor.results, f"isa {op}, data types")
    pairs = {"stationary": (stationary, stationary_scale), "moving": (moving, moving_scale)}
    for role, (data, scale) in pairs.items():
        tile(f"{op}: {role}", data, core, ("sbuf",))
        one_format(f"{op}: {role}", data, PACKED, f"isa {op}, data types")
        _scale_tile(op, f"{role}_scale", scale, data.partitions, data.free, core)
    used = _row_tile(op, core, tuple(tile_position or ()), tuple(tile_size or ()))
    depth = stationary.partitions
    if depth != moving.partitions or depth % QUADRANT or depth > used:
        found = f"{depth} and {moving.partitions} partitions"
        raise reject(f"{op}: operands", found, f"as many, a multiple of 32, at most {used}", f"isa {op}, tile size")
    if stationary.free % 2:
        raise reject(f"{op}: stationary", f"{stationary.free} columns", "an even number", f"isa {op}, tile size")
    result_extent(op, core, dst, stationary.free, moving.free)
    packed = core.generation.tensor.packed_depth
    work = Product(moving.free, stationary.free, 1, stationary.free * moving.free * depth * packed)

    def compute() -> None:
        left, right = (_scaled(op, role, *pair) for role, pair in pairs.items())
        accumulated(op, core, dst, left.T @ right, accumulate)

    reads = (stationary, moving, stationary_scale, moving_scale)
    return core.issue("tensor", op, reads, (dst,), work, compute, accumulates=accumulate is not False)


def _scale_tile(op: str, role: str, scale: Any, partitions: int, columns: int, core: Core) -> None:
    """Refuse scales that do not lie where the engine looks for them (deep-dives/mxfp-matmul, scale tensor)."""
    where, page = f"{op}: {role}", "deep-dives/mxfp-matmul, scale tensor"
    tile(where, scale, core, ("sbuf",), any_start=True)
    one_format(where, scale, SCALES, f"isa {op}, data types")
    if scale.start % QUADRANT not in (0, 4, 8, 12):
        raise reject(where, f"partition {scale.start % QUADRANT} of a quadrant", "0, 4, 8 or 12", page)
    least = (partitions // QUADRANT - 1) * QUADRANT + QUADRANT // SCALE_GROUP[0]
    if partitions <= QUADRANT:
        least = partitions // SCALE_GROUP[0]
    if scale.partitions < least or scale.free != columns:
        raise reject(where, f"shape {scale.shape}", f"at least {least} partitions of {columns}", page)


def _spots(partitions: int) -> Array:
    """Partition of its tile that the scale of each group of eight partitions lies in."""
    groups = np.arange(partitions // SCALE_GROUP[0])
    each = QUADRANT // SCALE_GROUP[0]
    return groups // each * QUADRANT + groups % each


def _scaled(op: str, role: str, data: NkiTensor, scale: NkiTensor) -> Array:
    """Elements times their scales, [partitions x 4, columns]; the order of the depth is the same for both operands."""
    elements = unpacked(data.read(f"{op}: {role}").reshape(data.partitions, data.free), data.dtype)
    found = [scale[int(row) : int(row) + 1].read(f"{op}: {role}_scale") for row in _spots(data.partitions)]
    exponents = np.concatenate([one.view(np.uint8).reshape(1, -1) for one in found]).astype(np.int32) - BIAS
    factors = np.ldexp(np.float32(1), exponents).repeat(SCALE_GROUP[0], axis=0)
    return (elements * factors[:, :, None]).transpose(0, 2, 1).reshape(-1, data.free)


def quantize_mx(dst: Any, src: Any, dst_scale: Any, name: str | None = None) -> Handle:
    """Quantize 8 partitions x 4 elements at a time, on the vector engine (isa quantize_mx).

    The scale is 2^(floor(log2(largest)) - (largest exponent of the format - 1)), twice that of the OCP's algorithm.

    Raises:
        Rejected: generation, placement, format, size or layout of scales that the page excludes.
    """
    core, op = current(), "quantize_mx"
    since(op, core, 4)
    tile(f"{op}: src", src, core, ("sbuf",))
    tile(f"{op}: dst", dst, core, ("sbuf",))
    one_format(f"{op}: src", src, HALF, f"isa {op}, data types")
    one_format(f"{op}: dst", dst, tuple(LARGEST_EXPONENT), f"isa {op}, data types")
    if src.partitions % QUADRANT or src.free % SCALE_GROUP[1]:
        raise reject(
            f"{op}: src", f"shape {src.shape}", "a multiple of 32 partitions and of 4 elements", f"isa {op}, tile size"
        )
    if (dst.partitions, dst.free) != (src.partitions, src.free // SCALE_GROUP[1]):
        raise reject(f"{op}: dst", f"shape {dst.shape}", f"({src.partitions}, {src.free // 4})", f"isa {op}, tile size")
    _scale_tile(op, "dst_scale", dst_scale, src.partitions, dst.free, core)

    def compute() -> None:
        values = rows(f"{op}: src", src)
        groups = np.abs(values).reshape(-1, SCALE_GROUP[0], dst.free, SCALE_GROUP[1])
        largest = groups.max(axis=(1, 3))
        exponent = np.frexp(largest)[1] - 1 - (LARGEST_EXPONENT[dst.dtype] - 1)
        exponent = np.where(largest > 0, np.clip(exponent, -BIAS, BIAS), -BIAS)
        factors = np.ldexp(np.float32(1), -exponent).repeat(SCALE_GROUP[0], axis=0).repeat(SCALE_GROUP[1], axis=1)
        stored = (values * factors).astype(FORMATS[FORMATS[dst.dtype].packs].stored)
        put_raw(dst, np.ascontiguousarray(stored).view(np.uint8).view(np.uint32))
        for row, line in zip(_spots(src.partitions), exponent, strict=True):
            spot = dst_scale[int(row) : int(row) + 1]
            spot.values().view(np.uint8)[...] = (line + BIAS).astype(np.uint8).reshape(spot.shape)
            spot.marks()[...] = WRITTEN

    work = Lanes(src.free / QUANTIZE_ELEMENTS)
    return core.issue("vector", op, (src,), (dst, dst_scale), work, compute)
