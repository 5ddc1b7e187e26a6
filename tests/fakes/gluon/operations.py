"""Operations of the language on values of registers, by their names there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import triton.language as tl
from triton.experimental.gluon import language as gl

from fakes.gluon import layouts
from fakes.gluon.errors import Hazard, Refused
from fakes.gluon.machine import program
from fakes.gluon.memory import View
from fakes.gluon.tensors import Value, constant, promoted, together, value


class constexpr:
    """A constant of compilation: its value itself, and the annotation of what must be one."""

    def __new__(cls, value: Any) -> Any:
        if isinstance(value, Value):
            raise Refused("a constexpr is a constant, found a value of the device")
        return value


def program_id(axis: int) -> Value:
    return value(_along(program().place, axis))


def num_programs(axis: int) -> Value:
    return value(_along(program().grid, axis))


def _along(extents: tuple[int, ...], axis: int) -> int:
    if axis not in (0, 1, 2):
        raise Refused(f"a grid has the axes 0 to 2, found {axis}")
    return extents[axis]


def num_warps() -> int:
    return program().partition.warps


def num_ctas() -> int:
    return 1


def barrier(*, cluster: bool = False) -> None:
    """Of the warps of a partition, which are always together here."""
    program().schedule.turn()


def thread_barrier() -> None:
    barrier()


def loop(*bounds: Any) -> Iterator[Value]:
    """`range` in a kernel: its number is a value of the device."""
    wide = any(isinstance(one, Value) and one.dtype == tl.int64 for one in bounds)
    for number in range(*(int(one) for one in bounds)):
        yield value(number).to(tl.int64) if wide else value(number)


def static_range(*bounds: Any) -> range:
    if any(isinstance(one, Value) for one in bounds):
        raise Refused("static_range takes constants")
    return range(*bounds)


def static_assert(cond: Any, msg: str = "") -> None:
    if isinstance(cond, Value):
        raise Refused("static_assert takes a constant")
    if not cond:
        raise Refused(f"static_assert: {msg}")


def static_print(*values: Any, **_options: Any) -> None:
    """Nothing."""


def device_print(*values: Any, **_options: Any) -> None:
    """Nothing."""


def device_assert(cond: Any, msg: str = "", mask: Any = None) -> None:
    held = cond.read() if isinstance(cond, Value) else torch.tensor(bool(cond))
    if not bool((held != 0).all()):
        raise Hazard(f"device_assert: {msg}")


def assume(cond: Any) -> None:
    device_assert(cond, "assume of what does not hold")


def multiple_of(input: Any, values: Any) -> Any:
    number = values if isinstance(values, int) else values[-1]
    if isinstance(input, Value) and not input.block and int(input) % number:
        raise Hazard(f"multiple_of({int(input)}, {number}) does not hold")
    return input


def max_contiguous(input: Any, values: Any) -> Any:
    return input


def max_constancy(input: Any, values: Any) -> Any:
    return input


def to_tensor(x: Any) -> Value:
    return value(x)


def arange(start: int, end: int, layout: Any = None) -> Value:
    if not isinstance(start, int) or not isinstance(end, int):
        raise Refused("arange takes constants")
    if end <= start or (end - start) & (end - start - 1):
        raise Refused(f"arange has a power of two of numbers, found {start} to {end}")
    return Value(torch.arange(start, end), tl.int32, layout if layout is not None else gl.AutoLayout())


def full(shape: Any, value: Any, dtype: Any, layout: Any = None) -> Value:
    return constant(list(shape), value, dtype, layout if layout is not None or not len(shape) else gl.AutoLayout())


def zeros(shape: Any, dtype: Any, layout: Any = None) -> Value:
    return full(shape, 0, dtype, layout)


def full_like(input: Value, value: Any, shape: Any = None, dtype: Any = None, layout: Any = None) -> Value:
    return full(input.shape if shape is None else shape, value, dtype or input.dtype, layout or input.layout)


def zeros_like(input: Value, shape: Any = None, dtype: Any = None, layout: Any = None) -> Value:
    return full_like(input, 0, shape, dtype, layout)


def convert_layout(value: Value, layout: Any, assert_trivial: bool = False) -> Value:
    if not isinstance(value, Value) or not value.block:
        raise Refused(f"convert_layout takes a tensor, found {value}")
    return Value(value.read(), value.dtype, layout, value.memory)


def set_auto_layout(value: Value, layout: Any) -> Value:
    if not isinstance(value.layout, gl.AutoLayout):
        raise Refused(f"set_auto_layout takes a tensor without a layout, found {value.layout}")
    return Value(value.read(), value.dtype, layout, value.memory)


def allocate_shared_memory(element_ty: Any, shape: Any, layout: Any, value: Any = None) -> View:
    if not isinstance(element_ty, tl.dtype) or not all(isinstance(size, int) for size in shape):
        raise Refused(f"shared memory has a format and a constant shape, found {element_ty} and {shape}")
    view = program().memory.allocate(element_ty, list(shape), layout)
    if value is not None:
        view.store(value)
    return view


def cast(input: Any, dtype: Any, fp_downcast_rounding: Any = None, bitcast: bool = False) -> Value:
    return value(input).to(dtype, fp_downcast_rounding, bitcast)


def expand_dims(input: Value, axis: int) -> Value:
    return input.expand_dims(axis)


def broadcast(input: Any, other: Any) -> tuple[Value, ...]:
    return together(value(input), value(other))


def permute(input: Value, *dims: Any) -> Value:
    return input.permute(*dims)


def reshape(input: Value, *shape: Any, can_reorder: bool = False) -> Value:
    if can_reorder:
        raise Refused("can_reorder is not supported in gluon")
    return input.reshape(*shape)


def ravel(x: Value, can_reorder: bool = False) -> Value:
    return reshape(x, [x.numel], can_reorder=can_reorder)


def split(a: Value) -> tuple[Value, Value]:
    return a.split()


def join(a: Value, b: Value) -> Value:
    left, right = together(value(a), value(b))
    if not left.block:
        raise Refused("Cannot join scalars in gluon")
    if left.dtype != right.dtype:
        raise Refused(f"join of {left.dtype} and {right.dtype}")
    warps = program().partition.warps
    layout = layouts.of_registers("join", tuple(left.shape), left.layout, warps)
    return Value(torch.stack([left.read(), right.read()], -1), left.dtype, layout)


def where(condition: Any, x: Any, y: Any) -> Value:
    choice, left, right = value(condition), value(x), value(y)
    if not choice.dtype.is_int1():
        choice = choice != 0
    left, right = promoted(left, right)
    choice, left, right = together(choice, left, right)
    made = torch.where(choice.read(), left.read(), right.read())
    return Value(made, left.dtype, left.layout, left.memory)
