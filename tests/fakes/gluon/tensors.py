"""Values of registers: scalars and tensors, with their format and layout.

Formats follow Triton's promotion. Tensors of different layouts do not mix, and what a product in flight owns is not
read.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language._core import distributed_type
from triton.experimental.gluon.language._semantic import GluonSemantic

from fakes.gluon import layouts
from fakes.gluon.errors import Hazard, Refused
from fakes.gluon.formats import Shape, carried, loaded, rounded, stored
from fakes.gluon.machine import program
from fakes.gluon.operators import Operators

PROMOTION = GluonSemantic.__new__(GluonSemantic)  # its rules of formats need no builder
INT32 = range(-(2**31), 2**31)


class Value(Operators):
    """A scalar (no shape, no layout) or a tensor of registers.

    ``memory`` is what pointers point into, of which the data are offsets in elements. ``owner`` is the product whose
    sums these are, ``busy`` those that read them as an operand.
    """

    def __init__(self, data: Tensor, dtype: tl.dtype, layout: Any = None, memory: Any = None, owner: Any = None):
        self.data, self.dtype, self.layout, self.memory, self.owner = data, dtype, layout, memory, owner
        self.busy: list[Any] = []
        if data.dim():
            layouts.verify(layout, self.shape, program().partition.warps)

    # What it is.

    @property
    def shape(self) -> Shape:
        return Shape(self.data.shape)

    @property
    def numel(self) -> int:
        return self.data.numel()

    @property
    def block(self) -> bool:
        return self.data.dim() > 0

    @property
    def type(self) -> Any:
        return distributed_type(self.dtype, self.shape, self.layout) if self.block else self.dtype

    def __str__(self) -> str:
        return f"{self.dtype}{self.shape or ''} {self.layout or ''}"

    def __repr__(self) -> str:
        return f"Value({self}, {self.data.tolist() if not self.block else '...'})"

    def read(self) -> Tensor:
        """The data, where no product in flight owns these registers."""
        self.busy = [product for product in self.busy if not product.retired]
        for product in (*self.busy, self.owner):
            if product is not None and not product.retired:
                raise Hazard(f"registers of a product in flight are read: {product.about}: warpgroup_mma_wait first")
        if self.owner is not None:
            self.data, self.owner = self.owner.result, None
        return self.data

    def _scalar(self, what: str) -> Any:
        if self.block:
            raise Refused(f"a tensor is no {what}: {self}")
        return self.read().item()

    def __bool__(self) -> bool:
        return bool(self._scalar("condition"))

    def __index__(self) -> int:
        if self.dtype.is_floating():
            raise Refused(f"a float is no integer: {self}")
        return int(self._scalar("integer"))

    __int__ = __index__

    def __float__(self) -> float:
        return float(self._scalar("float"))

    # Formats and shapes.

    def to(self, dtype: Any, fp_downcast_rounding: Any = None, bitcast: bool = False) -> Value:
        if bitcast:
            return self._bitcast(dtype)
        if fp_downcast_rounding not in (None, "rtne"):
            raise Refused("only rounding to nearest even is emulated")
        if self.dtype.is_ptr():
            raise Refused("a pointer is cast by bitcast only")
        if self.dtype == dtype:
            return self
        return Value(rounded(self.read(), dtype), dtype, self.layout)

    cast = to

    def _bitcast(self, dtype: Any) -> Value:
        if dtype.primitive_bitwidth != self.dtype.primitive_bitwidth:
            raise Refused(f"bitcast of {self.dtype} to {dtype}")
        return Value(loaded(self.read().to(stored(self.dtype)).view(stored(dtype)), dtype), dtype, self.layout)

    def __getitem__(self, slices: Any) -> Value:
        slices = slices if isinstance(slices, tuple) else (slices,)
        made = self
        for axis, one in enumerate(slices):
            if one is None:
                made = made.expand_dims(axis)
            elif one != slice(None):
                raise Refused(f"a tensor takes None and ':' in brackets, found {one}")
        if len([one for one in slices if one is not None]) > len(self.shape):
            raise Refused(f"too many ':' for {self}")
        return made

    def expand_dims(self, axis: int) -> Value:
        axis += (len(self.shape) + 1) if axis < 0 else 0
        layout = self.layout
        if not isinstance(layout, gl.AutoLayout | gl.CoalescedLayout):
            if not isinstance(layout, gl.SliceLayout) or layout.dim != axis:
                raise Refused(f"expand_dims in axis {axis} takes a layout sliced there, found {layout}")
            layout = layout.parent
        return Value(self.read().unsqueeze(axis), self.dtype, layout, self.memory)

    def broadcast_to(self, *shape: Any) -> Value:
        wanted = list(shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)
        return spread(self, wanted, self.layout)

    def permute(self, *order: Any) -> Value:
        told = tuple(order[0] if len(order) == 1 and not isinstance(order[0], int) else order)
        warps = program().partition.warps
        layout = layouts.of_registers("permute", tuple(self.shape), self.layout, warps, told)
        return Value(self.read().permute(told), self.dtype, layout, self.memory)

    def trans(self, *order: Any) -> Value:
        return self.permute(*(order or tuple(reversed(range(len(self.shape))))))

    @property
    def T(self) -> Value:
        return self.trans()

    def reshape(self, *shape: Any) -> Value:
        told = tuple(shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)
        warps = program().partition.warps
        layout = layouts.of_registers("reshape", tuple(self.shape), self.layout, warps, told)
        return Value(self.read().reshape(told), self.dtype, layout, self.memory)

    def split(self) -> tuple[Value, Value]:
        if not self.block or self.shape[-1] != 2:
            raise Refused(f"split takes a last extent of 2, found {self}")
        warps = program().partition.warps
        layout = layouts.of_registers("split", tuple(self.shape), self.layout, warps)
        left, right = self.read().unbind(-1)
        return Value(left, self.dtype, layout), Value(right, self.dtype, layout)

    def mix(self, rule: str, how: Callable[[Tensor, Tensor], Tensor], a: Any, b: Any, division: bool = False) -> Value:
        if rule == "compared":
            return compared(how, a, b)
        if rule == "divided":
            return divided(a, b)
        return (integral if rule == "integral" else arithmetic)(how, a, b, division)

    def __invert__(self) -> Value:
        if self.dtype.is_floating():
            raise Refused(f"~ takes integers, found {self}")
        return Value(~self.read(), self.dtype, self.layout)

    def __pos__(self) -> Value:
        return self

    def logical_and(self, other: Any) -> Value:
        return integral(operator.and_, self != 0, value(other) != 0)

    def logical_or(self, other: Any) -> Value:
        return integral(operator.or_, self != 0, value(other) != 0)


def value(what: Any) -> Value:
    """A number as a scalar of registers."""
    if isinstance(what, Value):
        return what
    if isinstance(what, bool):
        return Value(torch.tensor(what), tl.int1)
    if isinstance(what, int):
        return Value(torch.tensor(what), tl.int32 if what in INT32 else tl.int64)
    if isinstance(what, float):
        return Value(rounded(torch.tensor(what, dtype=torch.float64), tl.float32), tl.float32)
    raise Refused(f"expected a number or a tensor, found {type(what).__name__}")


def truth(what: Any) -> bool:
    """Of a scalar predicate."""
    return bool(what)


def spread(what: Value, shape: list[int], layout: Any) -> Value:
    """A scalar or tensor of a shape and layout, where it may be."""
    data = what.read()
    if what.block:
        if isinstance(what.layout, gl.AutoLayout) and layout is not None:
            pass
        elif what.layout != layout:
            raise Refused(f"layouts differ, and are not converted: {what.layout} and {layout}")
        if len(shape) != data.dim() or any(have not in (1, want) for have, want in zip(data.shape, shape, strict=True)):
            raise Refused(f"cannot broadcast {what.shape} to {shape}")
    return Value(data.expand(shape), what.dtype, layout, what.memory)


def together(*values: Value) -> tuple[Value, ...]:
    """Values of one shape and layout."""
    blocks = [one for one in values if one.block]
    if not blocks:
        return values
    ranks = {len(one.shape) for one in blocks}
    if len(ranks) > 1:
        raise Refused(f"ranks differ: {[one.shape for one in blocks]}")
    shape = [max(sizes) for sizes in zip(*(one.shape for one in blocks), strict=True)]
    known = [one.layout for one in blocks if not isinstance(one.layout, gl.AutoLayout)]
    layout = known[0] if known else blocks[0].layout
    return tuple(spread(one, shape, layout) for one in values)


def promoted(a: Any, b: Any, division: bool = False) -> tuple[Value, Value]:
    """Operands of one shape and layout, in the format of their operation: scalars give way to tensors."""
    one, other = value(a), value(b)
    left, right = together(one, other)
    if left.dtype.is_ptr() or right.dtype.is_ptr():
        return left, right
    dtype = PROMOTION.computation_type_impl(one.dtype, not one.block, other.dtype, not other.block, division)
    return left.to(dtype), right.to(dtype)


def arithmetic(how: Callable[[Tensor, Tensor], Tensor], a: Any, b: Any, division: bool = False) -> Value:
    left, right = promoted(a, b, division)
    if left.dtype.is_ptr() or right.dtype.is_ptr():
        return _moved(how, left, right)
    made = how(left.read(), right.read())
    result = rounded(made, left.dtype)
    if left.dtype in (tl.int32, tl.int64) and not torch.equal(result, made):
        raise Hazard(f"an integer of {left.dtype} overflows")
    return Value(result, left.dtype, left.layout)


def _moved(how: Callable[[Tensor, Tensor], Tensor], left: Value, right: Value) -> Value:
    """Pointers and offsets in elements."""
    if right.dtype.is_ptr() and how is operator.add:
        left, right = right, left
    if how not in (operator.add, operator.sub) or not left.dtype.is_ptr() or not right.dtype.is_int():
        raise Refused(f"a pointer takes + and - of integers, found {left.dtype} and {right.dtype}")
    return Value(how(left.read(), right.read()), left.dtype, left.layout, left.memory)


def integral(how: Callable[[Tensor, Tensor], Tensor], a: Any, b: Any, division: bool = False) -> Value:
    for one in (value(a), value(b)):
        if not one.dtype.is_int():
            raise Refused(f"this operation takes integers, found {one}")
    left, right = promoted(a, b, division)
    return Value(rounded(how(left.read(), right.read()), left.dtype), left.dtype, left.layout)


def divided(a: Any, b: Any) -> Value:
    """`/`, which of integers too is a float."""
    left, right = promoted(a, b, True) if value(a).dtype.is_int() != value(b).dtype.is_int() else promoted(a, b)
    dtype = tl.float64 if left.dtype.is_fp64() else tl.float32
    made = left.to(dtype).read() / right.to(dtype).read()
    return Value(rounded(made, dtype), dtype, left.layout)


def compared(how: Callable[[Tensor, Tensor], Tensor], a: Any, b: Any) -> Value:
    left, right = promoted(a, b)
    return Value(how(left.read(), right.read()), tl.int1, left.layout)


def constant(shape: list[int], number: Any, dtype: tl.dtype, layout: Any) -> Value:
    """A tensor of one number."""
    scalar = value(number).to(dtype)
    return Value(scalar.read().expand(shape).to(carried(dtype)), dtype, layout)
