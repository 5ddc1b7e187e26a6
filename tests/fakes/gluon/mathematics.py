"""Arithmetic of the language by name, functions of each number, and reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.experimental.gluon import language as gl

from fakes.gluon.errors import Refused
from fakes.gluon.formats import rounded
from fakes.gluon.tensors import Value, arithmetic, together, value


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


def add(x: Any, y: Any) -> Any:
    return value(x).__add__(y)


def sub(x: Any, y: Any) -> Any:
    return value(x).__sub__(y)


def mul(x: Any, y: Any) -> Any:
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


def fdiv(x: Any, y: Any, ieee_rounding: bool = False) -> Any:
    left, right = value(x), value(y)
    if not left.dtype.is_floating() or not right.dtype.is_floating():
        raise Refused("fdiv takes floats")
    return left / right


def div_rn(x: Any, y: Any) -> Any:
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


def max(
    input: Value, axis: int | None = None, return_indices: bool = False, return_indices_tie_break_left: bool = True,
    keep_dims: bool = False,
) -> Value:  # fmt: skip
    if return_indices:
        raise NotImplementedError("indices of a maximum are not emulated")
    return reduced(_wide(input), axis, keep_dims, lambda data, at: _numbers(data, -torch.inf).amax(at))


def min(
    input: Value, axis: int | None = None, return_indices: bool = False, return_indices_tie_break_left: bool = True,
    keep_dims: bool = False,
) -> Value:  # fmt: skip
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
