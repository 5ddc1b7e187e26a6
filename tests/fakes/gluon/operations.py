"""Operations of the language on values of registers, by their names there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.experimental.gluon import language as gl

from fakes.gluon import layouts
from fakes.gluon.errors import Hazard, Refused
from fakes.gluon.formats import rounded
from fakes.gluon.machine import program
from fakes.gluon.memory import View
from fakes.gluon.tensors import Value, arithmetic, constant, promoted, together, value


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


def extreme(how: Callable[[Tensor, Tensor], Tensor], exact: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Value]:
    """A maximum or minimum, which leaves out what is not a number unless it is told to pass it on."""

    def choose(x: Any, y: Any, propagate_nan: Any = tl.PropagateNan.NONE) -> Any:
        if not isinstance(x, Value) and not isinstance(y, Value):
            return exact(torch.tensor(x), torch.tensor(y)).item()
        return arithmetic(exact if propagate_nan == tl.PropagateNan.ALL else _of(how, exact), x, y)

    return choose


def _of(how: Any, exact: Any) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: how(a, b) if a.is_floating_point() else exact(a, b)


maximum = extreme(torch.fmax, torch.maximum)
minimum = extreme(torch.fmin, torch.minimum)


def add(x: Any, y: Any) -> Value:
    return value(x).__add__(y)


def sub(x: Any, y: Any) -> Value:
    return value(x).__sub__(y)


def mul(x: Any, y: Any) -> Value:
    return value(x).__mul__(y)


def clamp(x: Any, min: Any, max: Any) -> Value:
    return minimum(maximum(x, min), max)


def fma(x: Any, y: Any, z: Any) -> Value:
    left, right, more = together(value(x), value(y), value(z))
    if not left.dtype == right.dtype == more.dtype:
        raise Refused(f"fma takes one format, found {left.dtype}, {right.dtype} and {more.dtype}")
    made = left.read().double() * right.read().double() + more.read().double()
    return Value(rounded(made, left.dtype), left.dtype, left.layout)


def cdiv(x: Any, div: Any) -> Any:
    return (x + div - 1) // div


def elementwise(how: Callable[[Tensor], Tensor], formats: tuple[str, ...] = ("fp32", "fp64")) -> Callable[[Any], Value]:
    """A function of each number, in the formats it takes."""

    def apply(x: Any) -> Value:
        one = value(x)
        if one.dtype.name not in formats:
            raise Refused(f"Expected dtype {list(formats)} but got {one.dtype}")
        return Value(rounded(how(one.read()), one.dtype), one.dtype, one.layout)

    return apply


exp = elementwise(torch.exp)
exp2 = elementwise(torch.exp2)
log = elementwise(torch.log)
log2 = elementwise(torch.log2)
sqrt = elementwise(torch.sqrt)
sqrt_rn = elementwise(torch.sqrt, ("fp32",))
rsqrt = elementwise(torch.rsqrt)
sin = elementwise(torch.sin)
cos = elementwise(torch.cos)
erf = elementwise(torch.erf)
floor = elementwise(torch.floor)
ceil = elementwise(torch.ceil)


def abs(x: Any) -> Value:
    one = value(x)
    return Value(one.read().abs(), one.dtype, one.layout)


def fdiv(x: Any, y: Any, ieee_rounding: bool = False) -> Value:
    left, right = value(x), value(y)
    if not left.dtype.is_floating() or not right.dtype.is_floating():
        raise Refused("fdiv takes floats")
    return left / right


def div_rn(x: Any, y: Any) -> Value:
    return fdiv(x, y)


def reduced(one: Value, axis: int | None, keep_dims: bool, how: Callable[[Tensor, int], Tensor]) -> Value:
    """A tensor without one of its axes, or a scalar."""
    if not one.block:
        raise Refused(f"a reduction takes a tensor, found {one}")
    data = one.read()
    if axis is None:
        if keep_dims:
            raise Refused("keep_dims needs an axis here")
        return Value(rounded(how(data.reshape(-1), 0), one.dtype), one.dtype)
    rank = data.dim()
    if not -rank <= axis < rank:
        raise Refused(f"axis {axis} of a tensor of rank {rank}")
    axis %= rank
    made = rounded(how(data, axis), one.dtype)
    if rank == 1:
        return Value(made, one.dtype)
    result = Value(made, one.dtype, gl.SliceLayout(axis, one.layout))
    return result.expand_dims(axis) if keep_dims else result


def _wide(one: Value) -> Value:
    """Formats below 32 bits are compared in 32."""
    if one.dtype.primitive_bitwidth >= 32:
        return one
    return one.to(tl.float32 if one.dtype.is_floating() else tl.int32)


def max(input: Value, axis: int | None = None, return_indices: bool = False, keep_dims: bool = False) -> Value:
    if return_indices:
        raise NotImplementedError("indices of a maximum are not emulated")
    return reduced(_wide(input), axis, keep_dims, lambda data, at: _numbers(data, -torch.inf).amax(at))


def min(input: Value, axis: int | None = None, return_indices: bool = False, keep_dims: bool = False) -> Value:
    if return_indices:
        raise NotImplementedError("indices of a minimum are not emulated")
    return reduced(_wide(input), axis, keep_dims, lambda data, at: _numbers(data, torch.inf).amin(at))


def _numbers(data: Tensor, instead: float) -> Tensor:
    """An extreme leaves out what is not a number; of nothing else it is one."""
    if not data.is_floating_point() or data.isnan().all():
        return data
    return torch.where(data.isnan(), instead, data)


def sum(input: Value, axis: int | None = None, keep_dims: bool = False, dtype: Any = None) -> Value:
    if dtype is None:
        short = input.dtype.is_int() and input.dtype.primitive_bitwidth < 32
        dtype = (tl.uint32 if input.dtype.is_int_unsigned() else tl.int32) if short else input.dtype
    return reduced(input.to(dtype), axis, keep_dims, lambda data, at: data.sum(at))


def reduce_or(input: Value, axis: int, keep_dims: bool = False) -> Value:
    if not input.dtype.is_int():
        raise Refused("reduce_or only supported for integers")
    if not input.dtype.is_int1():
        raise NotImplementedError("reduce_or of int1 only is emulated")
    return reduced(input, axis, keep_dims, lambda data, at: data.any(at))
