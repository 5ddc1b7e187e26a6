"""Element by element and along the free axes: mostly the vector engine, some on Scalar and GpSimd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perwatt_kernels.nki_interpreter.errors import reject
from perwatt_kernels.nki_interpreter.formats import HALF, Array
from perwatt_kernels.nki_interpreter.hardware import FAST_EXP, RECIPROCAL_CYCLES, RSQRT_CYCLES
from perwatt_kernels.nki_interpreter.isa.enums import engine as engines
from perwatt_kernels.nki_interpreter.isa.enums import reduce_cmd as commands
from perwatt_kernels.nki_interpreter.isa.operands import (
    Scalar,
    alike,
    chosen,
    copy_speed,
    lanes,
    no_psum,
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
from perwatt_kernels.nki_interpreter.machine import Core, Handle, current
from perwatt_kernels.nki_interpreter.operators import OPERATORS, Operator, operator
from perwatt_kernels.nki_interpreter.stream import Lanes
from perwatt_kernels.nki_interpreter.tensor import NkiTensor

ALU = ("arithmetic", "bitvec")
SCALAR_PAIRS = (("multiply", "add"), ("multiply", None), ("add", None))  # on Scalar before gen4 (isa tensor_scalar)
INTEGERS = ("int8", "int16", "int32", "uint8", "uint16", "uint32")
LONG = ("int32", "uint32")


def tensor_tensor(
    dst: Any, data1: Any, data2: Any, op: Any, engine: engines = engines.unknown, name: str | None = None
) -> Handle:
    """``dst = data1 op data2``; 32-bit integers and powers on GpSimd, all else on Vector (isa tensor_tensor).

    Raises:
        Rejected: operator, placement, extents or formats that the page excludes.
    """
    core, where = current(), "tensor_tensor"
    function = operator(where, op, ALU)
    tiles = (dst, data1, data2)
    for role, one in zip(("dst", "data1", "data2"), tiles, strict=True):
        tile(f"{where}: {role}", one, core)
    alike(where, dst, data1=data1, data2=data2)
    not_both_in_psum(where, data1, data2)
    in_psum = any(one.buffer == "psum" for one in tiles)
    long = all(one.dtype in LONG for one in tiles) and not in_psum
    power = function.name == "power"
    on = chosen(where, engine, ("gpsimd",) if power else ("vector", "gpsimd"), "gpsimd" if power or long else "vector")
    if on == "gpsimd":
        no_psum(where, *tiles)
    if function.kind == "bitvec":
        _integers(where, *tiles)
    exact = function.kind == "bitvec" or (on == "gpsimd" and long)

    def compute() -> None:
        assert function.alu is not None
        if exact:
            a, b = (one.read(where).reshape(one.partitions, one.free) for one in (data1, data2))
            put(dst, function.alu(a, b))
        else:
            put(dst, function.alu(rows(f"{where}: data1", data1), rows(f"{where}: data2", data2)))

    fast = on == "vector" and all(one.dtype in HALF for one in tiles) and data1.buffer == data2.buffer == "sbuf"
    speed = lanes(core, on).fast_pair if fast else 1
    work = Lanes(2 * stream_cycles(core.generation, *tiles) / speed)
    return core.issue(on, where, (data1, data2), (dst,), work, compute)


def tensor_scalar(
    dst: Any, data: Any, op0: Any, operand0: Scalar | None, reverse0: bool = False, op1: Any = None,
    operand1: Scalar | None = None, reverse1: bool = False, engine: engines = engines.unknown, name: str | None = None,
) -> Handle:  # fmt: skip
    """``dst = (data op0 operand0) op1 operand1``, operands numbers or one element a partition (isa tensor_scalar).

    Raises:
        Rejected: operators, their mixture, engine, placement, extents or formats that the page excludes.
    """
    core, where = current(), "tensor_scalar"
    tile(f"{where}: data", data, core)
    tile(f"{where}: dst", dst, core)
    alike(where, dst, data=data)
    steps = [_step(where, "0", op0, operand0, reverse0, data, core)]
    if op1 is not None or operand1 is not None:
        steps.append(_step(where, "1", op1, operand1, reverse1, data, core))
    bits = {step[0].kind == "bitvec" for step in steps}
    if len(bits) > 1:
        raise reject(f"{where}: op0 and op1", "one bitvec, one arithmetic", "both of one kind", f"isa {where}")
    if bits == {True}:
        _integers(where, dst, data)
    names = tuple(step[0].name for step in steps)
    on = chosen(where, engine, _engines(core, names, bits == {True}), "gpsimd" if names == ("rsqrt",) else "vector")
    if on == "gpsimd":
        no_psum(where, dst, data)
    reads = [data, *(step[1] for step in steps if isinstance(step[1], NkiTensor))]

    def compute() -> None:
        if bits == {True}:
            put_raw(dst, _apply(where, data.read(where).reshape(data.partitions, data.free), steps, raw=True))
        else:
            put(dst, _apply(where, rows(f"{where}: data", data), steps))

    cycles = stream_cycles(core.generation, data, dst) / copy_speed(core, on, dst, data)
    if "rsqrt" in names:
        cycles *= RSQRT_CYCLES
    return core.issue(on, where, reads, (dst,), Lanes(cycles), compute)


def _engines(core: Core, names: tuple[str, ...], bits: bool) -> tuple[str, ...]:
    """Engines that ``tensor_scalar`` can run on with these operators."""
    if names == ("rsqrt",):
        return ("gpsimd",)
    pair = (names[0], names[1] if len(names) > 1 else None)
    if bits or (core.generation.number < 4 and pair not in SCALAR_PAIRS):
        return ("vector",)
    return ("vector", "scalar")


Step = tuple[Operator, Scalar | None, bool]


def _step(where: str, which: str, op: Any, operand: Scalar | None, reverse: bool, data: NkiTensor, core: Core) -> Step:
    function = operator(f"{where}: op{which}", op, (*ALU, "unary"))
    if function.kind == "unary":
        if isinstance(operand, NkiTensor) or operand not in (None, 0):
            raise reject(
                f"{where}: operand{which}", repr(operand), f"None or 0 with nl.{function.name}", f"isa {where}"
            )
        return function, None, False
    for one in per_partition(where, f"operand{which}", operand, data, core):
        wanted = INTEGERS if function.kind == "bitvec" else ("float32",)
        one_format(f"{where}: operand{which}", one, wanted, f"isa {where}")
    return function, operand, reverse


def _apply(where: str, values: Array, steps: Sequence[Step], raw: bool = False) -> Array:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for function, operand, reverse in steps:
            assert function.alu is not None
            if function.kind == "unary":
                values = function.alu(values)
                continue
            assert operand is not None
            if raw:
                other = operand.read(where) if isinstance(operand, NkiTensor) else values.dtype.type(operand)
            else:
                other = number(where, operand)
            values = function.alu(other, values) if reverse else function.alu(values, other)
    return values


def _integers(where: str, *tiles: NkiTensor) -> None:
    for one in tiles:
        one_format(f"{where} with a bitvec operator", one, INTEGERS, f"isa {where}")


def scalar_tensor_tensor(
    dst: Any, data: Any, op0: Any, operand0: Scalar, op1: Any, operand1: Any, reverse0: bool = False,
    reverse1: bool = False, name: str | None = None,
) -> Handle:  # fmt: skip
    """``dst = (data op0 operand0) op1 operand1``, the last a tile, on Vector (isa scalar_tensor_tensor).

    Raises:
        Rejected: operators, placement, extents or formats that the page excludes.
    """
    core, where = current(), "scalar_tensor_tensor"
    for role, one in (("dst", dst), ("data", data), ("operand1", operand1)):
        tile(f"{where}: {role}", one, core)
    alike(where, dst, data=data, operand1=operand1)
    not_both_in_psum(where, data, operand1)
    second = operator(f"{where}: op1", op1, ("arithmetic",))
    operator(f"{where}: op0", op0, ("arithmetic", "unary"))
    first = _step(where, "0", op0, operand0, reverse0, data, core)
    reads = [data, operand1, *([first[1]] if isinstance(first[1], NkiTensor) else [])]

    def compute() -> None:
        assert second.alu is not None
        left = _apply(where, rows(f"{where}: data", data), [first])
        right = rows(f"{where}: operand1", operand1)
        put(dst, second.alu(right, left) if reverse1 else second.alu(left, right))

    work = Lanes(2 * stream_cycles(core.generation, dst, data, operand1))
    return core.issue("vector", where, reads, (dst,), work, compute)


def tensor_scalar_reduce(
    dst: Any, data: Any, op0: Any, operand0: Scalar | None, reduce_op: Any, reduce_res: Any = None,
    reverse0: bool = False, reduce_cmd: commands = commands.reset_reduce, reduce_init: Scalar | None = None,
    reduce_res_negate: bool = False, name: str | None = None,
) -> Handle:  # fmt: skip
    """``dst = data op0 operand0`` and its reduction along the free axes, on Vector (isa tensor_scalar_reduce).

    Raises:
        Rejected: operators, command, placement, extents or formats that the page excludes.
    """
    core, where = current(), "tensor_scalar_reduce"
    tile(f"{where}: data", data, core)
    tile(f"{where}: dst", dst, core)
    alike(where, dst, data=data)
    if reverse0:
        raise reject(f"{where}: reverse0", "True", "False, as it is not supported yet", f"isa {where}")
    operator(f"{where}: op0", op0, ("arithmetic", "unary"))
    first = _step(where, "0", op0, operand0, False, data, core)
    over = operator(f"{where}: reduce_op", reduce_op, ("arithmetic",))
    if over.name not in ("add", "multiply", "maximum", "minimum"):
        raise reject(f"{where}: reduce_op", over.name, "add, multiply, maximum or minimum", f"isa {where}")
    allowed = (commands.reset_reduce, commands.reduce, commands.load_reduce)
    if reduce_cmd not in allowed:
        raise reject(f"{where}: reduce_cmd", reduce_cmd.name, "reset_reduce, reduce or load_reduce", f"isa {where}")
    if (reduce_cmd is commands.load_reduce) != (reduce_init is not None):
        raise reject(f"{where}: reduce_init", reduce_init, "one with load_reduce, and only then", f"isa {where}")
    reads = [data, *([first[1]] if isinstance(first[1], NkiTensor) else [])]
    if reduce_init is not None:
        reads += per_partition(where, "reduce_init", reduce_init, data, core)
    writes = [dst, *_result(where, reduce_res, data, core)]

    def compute() -> None:
        values = _apply(where, rows(f"{where}: data", data), [first])
        put(dst, values)
        init = None if reduce_init is None else number(where, reduce_init)
        sums = reduced(core, "vector", reduce_cmd, over, values, where, init)
        write_sums(where, reduce_res, -sums if reduce_res_negate and sums is not None else sums)

    extra = lanes(core, "vector").read_accumulator if reduce_res is not None else 0
    return core.issue("vector", where, reads, writes, Lanes(stream_cycles(core.generation, data, dst), extra), compute)


def _result(where: str, found: Any, data: NkiTensor, core: Core) -> list[NkiTensor]:
    """A tile that registers are written to, if there is one."""
    if found is None:
        return []
    tile(f"{where}: reduce_res", found, core)
    return per_partition(where, "reduce_res", found, data, core)


def tensor_reduce(
    dst: Any, op: Any, data: Any, axis: int | Sequence[int], negate: bool = False, keepdims: bool = False,
    name: str | None = None,
) -> Handle:  # fmt: skip
    """A reduction over the last free axes, on Vector (isa tensor_reduce).

    Raises:
        Rejected: operator, axes, placement, extents or formats that the page excludes.
    """
    core, where = current(), "tensor_reduce"
    function = operator(where, op, ALU)
    tile(f"{where}: data", data, core)
    tile(f"{where}: dst", dst, core)
    axes = sorted(one % data.ndim for one in ((axis,) if isinstance(axis, int) else axis))
    if not function.reduces:
        raise reject(f"{where}: op", f"nl.{function.name}", "one that can reduce", "shared, legal reduction op")
    if not axes or axes != list(range(data.ndim - len(axes), data.ndim)) or axes[0] == 0:
        raise reject(f"{where}: axis", axis, "the last axes, without the partition", f"isa {where}")
    kept = data.shape[: axes[0]]
    if (dst.partitions, dst.free) != (data.partitions, int(np.prod(kept[1:], dtype=np.int64))):
        raise reject(f"{where}: dst", f"shape {dst.shape}", f"the extent of {kept}", f"isa {where}, tile size")
    if function.kind == "bitvec":
        _integers(where, dst, data)
        if negate:
            raise reject(f"{where}: negate", "True with a bitvec operator", "False", f"isa {where}")

    def compute() -> None:
        assert function.alu is not None
        bits = function.kind == "bitvec"
        values = data.read(where) if bits else rows(f"{where}: data", data)
        groups = values.reshape(data.partitions, dst.free, -1)
        found = function.alu.reduce(groups, axis=2) if hasattr(function.alu, "reduce") else _fold(function, groups)
        put(dst, -found if negate else found)

    work = Lanes(stream_cycles(core.generation, data))
    return core.issue("vector", where, (data,), (dst,), work, compute)


def _fold(function: Operator, groups: Array) -> Array:
    assert function.alu is not None
    found = groups[:, :, 0]
    for at in range(1, groups.shape[2]):
        found = function.alu(found, groups[:, :, at])
    return found


def reciprocal(dst: Any, data: Any, name: str | None = None) -> Handle:
    """``dst = 1 / data`` on Vector (isa reciprocal; cycles: shared, engine selection).

    Raises:
        Rejected: placement or extents that the page excludes.
    """
    core, where = current(), "reciprocal"
    tile(f"{where}: data", data, core)
    tile(f"{where}: dst", dst, core)
    alike(where, dst, data=data)

    def compute() -> None:
        with np.errstate(divide="ignore"):
            put(dst, np.float32(1) / rows(f"{where}: data", data))

    work = Lanes(RECIPROCAL_CYCLES * stream_cycles(core.generation, data, dst))
    return core.issue("vector", where, (data,), (dst,), work, compute)


def exponential(
    dst: Any, src: Any, max_value: Scalar = 0.0, reduce_res: Any = None, reduce_cmd: commands = commands.idle,
    reduce_init: Scalar = 0.0, name: str | None = None,
) -> Handle:  # fmt: skip
    """``dst = exp(src - max_value)`` and its sum, on Vector from gen4 on (isa exponential).

    Raises:
        Rejected: generation, command, placement, extents or formats that the page excludes.
    """
    core, where = current(), "exponential"
    since(where, core, 4)
    tile(f"{where}: src", src, core)
    tile(f"{where}: dst", dst, core)
    alike(where, dst, src=src)
    reads = [src, *per_partition(where, "max_value", max_value, src, core)]
    for one in reads[1:]:
        one_format(f"{where}: max_value", one, ("float32",), f"isa {where}")
    if reduce_cmd is commands.reset:
        raise reject(f"{where}: reduce_cmd", "reset", "idle, reset_reduce, reduce or load_reduce", f"isa {where}")
    given = isinstance(reduce_init, NkiTensor) or reduce_init != 0.0
    if given and reduce_cmd is not commands.load_reduce:
        raise reject(f"{where}: reduce_init", "one", "0.0 without load_reduce", f"isa {where}")
    reads += per_partition(where, "reduce_init", reduce_init, src, core)
    writes = [dst, *_result(where, reduce_res, src, core)]

    def compute() -> None:
        with np.errstate(over="ignore"):
            values = np.exp(rows(f"{where}: src", src) - number(where, max_value))
        put(dst, values)
        init = number(where, reduce_init)
        write_sums(where, reduce_res, reduced(core, "vector", reduce_cmd, OPERATORS["add"], values, where, init))

    # Four times the rate of an exponential on Scalar, in Vector's own cycles.
    ratio = lanes(core, "vector").clock_ghz / lanes(core, "scalar").clock_ghz
    extra = lanes(core, "vector").read_accumulator if reduce_res is not None else 0
    work = Lanes(stream_cycles(core.generation, src, dst) * ratio / FAST_EXP, extra)
    return core.issue("vector", where, reads, writes, work, compute)
