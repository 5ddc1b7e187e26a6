"""Patterns, masks and selections: GpSimd's affine ones, and Vector's by predicate or by range."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from perwatt_kernels.nki_interpreter.errors import reject
from perwatt_kernels.nki_interpreter.formats import FORMATS, UNSIGNED, Array
from perwatt_kernels.nki_interpreter.hardware import FP32_LOWEST, INDEX_LIMIT
from perwatt_kernels.nki_interpreter.isa.enums import reduce_cmd as commands
from perwatt_kernels.nki_interpreter.isa.operands import (
    Scalar,
    alike,
    lanes,
    not_both_in_psum,
    number,
    one_format,
    per_partition,
    put,
    put_raw,
    reduced,
    rows,
    since,
    stream_cycles,
    tile,
    write_sums,
)  # fmt: skip
from perwatt_kernels.nki_interpreter.isa.vector import _result
from perwatt_kernels.nki_interpreter.machine import Handle, current
from perwatt_kernels.nki_interpreter.operators import OPERATORS, operator
from perwatt_kernels.nki_interpreter.stream import Lanes
from perwatt_kernels.nki_interpreter.tensor import NkiTensor

COMPARISONS = ("equal", "less", "less_equal", "greater", "greater_equal")
Pattern = Sequence[Sequence[int]]


def _affine(op: str, dst: NkiTensor, pattern: Pattern, offset: int, multiplier: int) -> None:
    """Refuse a pattern that does not fill its tile."""
    if not 1 <= len(pattern) <= 4 or any(len(pair) != 2 for pair in pattern):
        raise reject(f"{op}: pattern", pattern, "one to four pairs of step and count", f"isa {op}")
    count = prod(pair[1] for pair in pattern)
    if count != dst.free:
        raise reject(
            f"{op}: pattern", f"{count} elements", f"{dst.free}, as a partition of dst", f"isa {op}, tile size"
        )
    for what, value in (("offset", offset), ("channel_multiplier", multiplier)):
        if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**31:
            raise reject(f"{op}: {what}", repr(value), "an int32", f"isa {op}")


def _values(dst: NkiTensor, pattern: Pattern, offset: int, multiplier: int) -> Array:
    """The affine expression of every element, [partitions, free]."""
    free = np.zeros(1, np.int64)
    for step, count in pattern:
        free = (free[:, None] + np.arange(count) * step).reshape(-1)
    return (offset + np.arange(dst.partitions)[:, None] * multiplier + free).astype(np.int32)


def iota(dst: Any, pattern: Pattern, offset: int = 0, channel_multiplier: int = 0, name: str | None = None) -> Handle:
    """``offset + partition * channel_multiplier + sum(step * index)`` in int32, on GpSimd (isa iota).

    Raises:
        Rejected: placement, or a pattern that does not fill the tile.
    """
    core = current()
    tile("iota: dst", dst, core, ("sbuf",))
    _affine("iota", dst, pattern, offset, channel_multiplier)
    work = Lanes(stream_cycles(core.generation, dst))
    return core.issue(
        "gpsimd", "iota", (), (dst,), work, lambda: put(dst, _values(dst, pattern, offset, channel_multiplier))
    )


def affine_select(
    dst: Any, pattern: Pattern, channel_multiplier: int, on_true_tile: Any, on_false_value: Any,
    cmp_op: Any = OPERATORS["equal"], offset: int = 0, name: str | None = None,
) -> Handle:  # fmt: skip
    """``on_true_tile`` where an affine expression compares with 0, else a number, on GpSimd (isa affine_select).

    Raises:
        Rejected: placement, extents, or a pattern that does not fill the tile.
    """
    core, where = current(), "affine_select"
    tile(f"{where}: dst", dst, core, ("sbuf",))
    tile(f"{where}: on_true_tile", on_true_tile, core, ("sbuf",))
    alike(where, dst, on_true_tile=on_true_tile)
    _affine(where, dst, pattern, offset, channel_multiplier)
    compare = operator(f"{where}: cmp_op", cmp_op, ("arithmetic",))
    if compare.name not in (*COMPARISONS, "not_equal"):
        raise reject(f"{where}: cmp_op", f"nl.{compare.name}", "a comparison", f"isa {where}")
    if isinstance(on_false_value, NkiTensor):
        raise reject(f"{where}: on_false_value", "a tensor", "a number", f"isa {where}")

    def compute() -> None:
        assert compare.alu is not None
        keep = compare.alu(_values(dst, pattern, offset, channel_multiplier), 0) != 0
        put(dst, np.where(keep, rows(f"{where}: on_true_tile", on_true_tile), np.float32(on_false_value)))

    work = Lanes(stream_cycles(core.generation, dst, on_true_tile))
    return core.issue("gpsimd", where, (on_true_tile,), (dst,), work, compute)


def range_select(
    dst: Any, on_true_tile: Any, comp_op0: Any, comp_op1: Any, bound0: Any, bound1: Any,
    reduce_cmd: commands = commands.reset_reduce, reduce_res: Any = None, reduce_op: Any = OPERATORS["maximum"],
    range_start: int = 0, on_false_value: float = FP32_LOWEST, name: str | None = None,
) -> Handle:  # fmt: skip
    """Elements whose index compares with two bounds of its partition, and their maximum, on Vector (isa range_select).

    Raises:
        Rejected: generation, comparison, fill, placement, extents or formats that the page excludes.
    """
    core, where = current(), "range_select"
    since(where, core, 3)
    tile(f"{where}: dst", dst, core)
    tile(f"{where}: on_true_tile", on_true_tile, core)
    alike(where, dst, on_true_tile=on_true_tile)
    if FORMATS[on_true_tile.dtype].kind != "float":
        raise reject(f"{where}: on_true_tile", on_true_tile.dtype, "a floating-point format", f"isa {where}")
    comparisons = [operator(f"{where}: comp_op", op, ("arithmetic",)) for op in (comp_op0, comp_op1)]
    for one in comparisons:
        if one.name not in COMPARISONS:
            raise reject(f"{where}: comp_op", f"nl.{one.name}", " or ".join(COMPARISONS), f"isa {where}")
    bounds: list[NkiTensor] = []
    for role, bound in (("bound0", bound0), ("bound1", bound1)):
        tile(f"{where}: {role}", bound, core)
        bounds += per_partition(where, role, bound, on_true_tile, core)
        one_format(f"{where}: {role}", bound, ("float32",), f"isa {where}")
    if np.float32(on_false_value) != np.float32(FP32_LOWEST):
        raise reject(f"{where}: on_false_value", on_false_value, f"{FP32_LOWEST}", f"isa {where}")
    if reduce_op is not OPERATORS["maximum"]:
        raise reject(f"{where}: reduce_op", getattr(reduce_op, "name", reduce_op), "nl.maximum", f"isa {where}")
    if not range_start >= 0 or range_start + dst.free > INDEX_LIMIT:
        raise reject(f"{where}: range_start", range_start, f"indices below {INDEX_LIMIT}", f"isa {where}")
    writes = [dst, *_result(where, reduce_res, on_true_tile, core)]

    def compute() -> None:
        index = np.arange(range_start, range_start + dst.free, dtype=np.float32)[None]
        keep = np.ones((dst.partitions, dst.free), bool)
        for compare, bound in zip(comparisons, bounds, strict=True):
            assert compare.alu is not None
            keep &= compare.alu(index, number(where, bound)) != 0
        values = np.where(keep, rows(f"{where}: on_true_tile", on_true_tile), np.float32(FP32_LOWEST))
        put(dst, values)
        write_sums(where, reduce_res, reduced(core, "vector", reduce_cmd, OPERATORS["maximum"], values, where))

    extra = lanes(core, "vector").read_accumulator if reduce_res is not None else 0
    work = Lanes(stream_cycles(core.generation, dst, on_true_tile), extra)
    return core.issue("vector", where, (on_true_tile, *bounds), writes, work, compute)


def select_reduce(
    dst: Any, predicate: Any, on_true: Any, on_false: Scalar, reduce_res: Any = None,
    reduce_cmd: commands = commands.idle, reduce_op: Any = OPERATORS["maximum"], reverse_pred: bool = False,
    name: str | None = None,
) -> Handle:  # fmt: skip
    """``on_true`` where a predicate holds, else ``on_false``, and the maximum, on Vector (isa select_reduce).

    Raises:
        Rejected: command, placement, extents or formats that the page excludes.
    """
    core, where = current(), "select_reduce"
    for role, one in (("dst", dst), ("predicate", predicate), ("on_true", on_true)):
        tile(f"{where}: {role}", one, core)
    alike(where, dst, predicate=predicate, on_true=on_true)
    not_both_in_psum(where, predicate, on_true)
    one_format(f"{where}: predicate", predicate, ("int8", "uint8", "int16", "uint16"), f"isa {where}")
    if on_true.dtype in ("tfloat32", "int32", "uint32"):
        raise reject(f"{where}: on_true", on_true.dtype, "any other format", f"isa {where}")
    if reduce_op is not OPERATORS["maximum"]:
        raise reject(f"{where}: reduce_op", getattr(reduce_op, "name", reduce_op), "nl.maximum", f"isa {where}")
    if reduce_cmd not in (commands.idle, commands.reduce, commands.reset_reduce):
        raise reject(f"{where}: reduce_cmd", reduce_cmd.name, "idle, reduce or reset_reduce", f"isa {where}")
    other = per_partition(where, "on_false", on_false, on_true, core)
    writes = [dst, *_result(where, reduce_res, on_true, core)]

    def compute() -> None:
        holds = (rows(f"{where}: predicate", predicate) != 0) ^ reverse_pred
        values = np.where(holds, rows(f"{where}: on_true", on_true), number(where, on_false))
        put(dst, values)
        write_sums(where, reduce_res, reduced(core, "vector", reduce_cmd, OPERATORS["maximum"], values, where))

    extra = lanes(core, "vector").read_accumulator if reduce_res is not None else 0
    work = Lanes(2 * stream_cycles(core.generation, dst, predicate, on_true), extra)
    return core.issue("vector", where, (predicate, on_true, *other), writes, work, compute)


def tensor_copy_predicated(
    dst: Any, src: Any, predicate: Any, reverse_pred: bool = False, name: str | None = None
) -> Handle:
    """Copy where a predicate holds and leave the rest as it is, on Vector (isa tensor_copy_predicated).

    Raises:
        Rejected: placement, extents or formats that the page excludes.
    """
    core, where = current(), "tensor_copy_predicated"
    tile(f"{where}: dst", dst, core)
    tile(f"{where}: predicate", predicate, core)
    one_format(f"{where}: predicate", predicate, UNSIGNED, f"isa {where}")
    alike(where, dst, predicate=predicate)
    reads = [predicate, dst]
    if isinstance(src, NkiTensor):
        tile(f"{where}: src", src, core)
        alike(where, dst, src=src)
        not_both_in_psum(where, src, predicate)
        one_format(f"{where}: src", src, (dst.dtype,), f"isa {where}")
        reads.append(src)

    def compute() -> None:
        holds = ((predicate.read(f"{where}: predicate") != 0) ^ reverse_pred).reshape(dst.shape)
        if isinstance(src, NkiTensor):
            found = src.read(f"{where}: src").reshape(dst.shape)
        else:
            found = np.full(dst.shape, src).astype(dst.values().dtype)
        before = dst.marks().copy()
        put_raw(dst, np.where(holds, found, dst.values()))
        dst.marks()[~holds] = before[~holds]  # what was never written stays so

    work = Lanes(2 * stream_cycles(core.generation, dst, predicate))
    return core.issue("vector", where, reads, (dst,), work, compute)
