"""The scalar engine: ``activation`` and ``activation_reduce``."""

from __future__ import annotations

from typing import Any

from perwatt_kernels.nki_interpreter.errors import reject
from perwatt_kernels.nki_interpreter.isa.enums import reduce_cmd as commands
from perwatt_kernels.nki_interpreter.isa.operands import (
    Scalar,
    alike,
    lanes,
    number,
    one_format,
    per_partition,
    put,
    reduced,
    rows,
    stream_cycles,
    tile,
    write_sums,
)  # fmt: skip
from perwatt_kernels.nki_interpreter.machine import Handle, current
from perwatt_kernels.nki_interpreter.operators import OPERATORS, operator
from perwatt_kernels.nki_interpreter.stream import Lanes
from perwatt_kernels.nki_interpreter.tensor import NkiTensor


def activation(
    dst: Any, op: Any, data: Any, bias: Scalar | None = None, scale: Scalar = 1.0, reduce_op: Any = None,
    reduce_res: Any = None, reduce_cmd: commands = commands.idle, name: str | None = None,
) -> Handle:  # fmt: skip
    """``dst = op(data * scale + bias)`` in float32, and its sum along the free axes (isa activation).

    Raises:
        Rejected: operator, placement, extents, bias, scale or reduction that the page excludes; a value outside the
            range of the operator.
    """
    return _activation("activation", dst, op, data, bias, scale, reduce_op, reduce_res, reduce_cmd)


def activation_reduce(
    dst: Any, op: Any, data: Any, reduce_op: Any, reduce_res: Any, bias: Scalar | None = None, scale: Scalar = 1.0,
    name: str | None = None,
) -> Handle:  # fmt: skip
    """``activation`` that resets its registers, reduces and writes them to ``reduce_res`` (isa activation_reduce).

    Raises:
        Rejected: as ``activation``.
    """
    return _activation("activation_reduce", dst, op, data, bias, scale, reduce_op, reduce_res, commands.reset_reduce)


def _activation(
    name: str, dst: Any, op: Any, data: Any, bias: Scalar | None, scale: Scalar, reduce_op: Any, reduce_res: Any,
    reduce_cmd: commands,
) -> Handle:  # fmt: skip
    core = current()
    function = operator(name, op, (), activation=True)
    tile(f"{name}: data", data, core)
    tile(f"{name}: dst", dst, core)
    alike(name, dst, data=data)
    reads: list[NkiTensor] = [data, *per_partition(name, "scale", scale, data, core)]
    for one in reads[1:]:
        one_format(f"{name}: scale", one, ("float32",), f"isa {name}, data types")
    if bias is not None:
        given = per_partition(name, "bias", bias, data, core)
        if core.generation.number < 3 and not given:
            raise reject(
                f"{name}: bias", f"{bias!r} on gen2", "a tile with one element a partition", f"isa {name}, layout"
            )
        if core.generation.number < 3 and function.name == "reciprocal":
            raise reject(f"{name}: bias", "one with nl.reciprocal on gen2", "none", "shared, engine selection")
        for one in given:
            if one.dtype == "tfloat32":
                raise reject(f"{name}: bias", one.dtype, "any other format", f"isa {name}, data types")
        reads += given
    reducing = reduce_cmd not in (commands.idle, commands.reset)
    if reduce_op is not OPERATORS["add"] and (reducing or reduce_op is not None):
        raise reject(f"{name}: reduce_op", getattr(reduce_op, "name", reduce_op), "nl.add", f"isa {name}")
    if reduce_cmd is commands.load_reduce:
        raise reject(f"{name}: reduce_cmd", "load_reduce", "idle, reset, reduce or reset_reduce", f"isa {name}")
    writes = [dst]
    if reduce_res is not None:
        tile(f"{name}: reduce_res", reduce_res, core)
        per_partition(name, "reduce_res", reduce_res, data, core)
        writes.append(reduce_res)

    def compute() -> None:
        values = rows(f"{name}: data", data) * number(f"{name}: scale", scale)
        if bias is not None:
            values = values + number(f"{name}: bias", bias)
        values = function.activate(values)
        put(dst, values)
        write_sums(name, reduce_res, reduced(core, "scalar", reduce_cmd, OPERATORS["add"], values, name))

    extra = lanes(core, "scalar").read_accumulator if reduce_res is not None else 0
    work = Lanes(stream_cycles(core.generation, data, dst), extra)
    return core.issue("scalar", name, reads, writes, work, compute)
