"""Loads, stores and atomics of registers by pointers, each in the bounds of the tensor that was handed over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from fakes.gluon.errors import Hazard, Refused
from fakes.gluon.formats import BITS, TRITON, loaded, rounded, stored, width
from fakes.gluon.machine import program
from fakes.gluon.tensors import Value, spread, value


class Global:
    """A tensor as pointers see it: elements from its first on."""

    def __init__(self, tensor: Tensor) -> None:
        self.dtype = TRITON[tensor.dtype]
        sizes = zip(tensor.shape, tensor.stride(), strict=True)
        self.reach = sum((size - 1) * step for size, step in sizes) + 1 if tensor.numel() else 0
        flat = tensor.as_strided((self.reach,), (1,))
        self.bits = flat.view(BITS[width(self.dtype)]) if self.reach else flat
        self.data = flat

    def take(self, at: Tensor) -> Tensor:
        return loaded(self.bits[at].view(stored(self.dtype)), self.dtype)

    def put(self, at: Tensor, what: Tensor) -> None:
        self.bits[at] = what.to(stored(self.dtype)).view(self.bits.dtype)


def pointer(tensor: Tensor) -> Value:
    memory = Global(tensor)
    return Value(torch.tensor(0), tl.pointer_type(memory.dtype), memory=memory)


def _places(where: Any, mask: Any) -> tuple[Value, Value, Tensor]:
    """Pointers, mask of their shape, and places that are touched; out of bounds is an error."""
    if not isinstance(where, Value) or not where.dtype.is_ptr():
        raise Refused(f"expected a pointer, found {where}")
    seen = value(True if mask is None else mask)
    if not seen.dtype.is_int1():
        raise Refused(f"a mask is int1, found {seen.dtype}")
    if seen.block and not where.block:
        raise Refused("a mask of a tensor for a scalar pointer")
    seen = spread(seen, where.shape, where.layout) if where.block else seen
    at = where.read()[seen.data]
    if at.numel() and (int(at.min()) < 0 or int(at.max()) >= where.memory.reach):
        raise Hazard(
            f"pointers reach elements {int(at.min())} to {int(at.max())} of a tensor that spans {where.memory.reach}"
        )
    return where, seen, at


def load(
    pointer: Any, mask: Any = None, other: Any = None, *, cache_modifier: Any = None, eviction_policy: Any = None,
    volatile: bool = False,
) -> Value:  # fmt: skip
    program().schedule.turn()
    where, seen, at = _places(pointer, mask)
    dtype = where.memory.dtype
    if other is None:  # what is not loaded is not defined
        blank = float("nan") if dtype.is_floating() else -(2**30) % (1 << min(31, dtype.primitive_bitwidth - 1))
    made = torch.full(
        where.shape, 0.0 if other is not None else blank, dtype=loaded(where.memory.data[:0], dtype).dtype
    )
    if other is not None:
        rest = value(other).to(dtype)
        made = (spread(rest, where.shape, where.layout) if where.block else rest).data.clone()
    made[seen.data] = where.memory.take(at)
    return Value(made, dtype, where.layout)


def store(
    pointer: Any, value: Any, mask: Any = None, *, cache_modifier: Any = None, eviction_policy: Any = None
) -> None:
    program().schedule.turn()
    where, seen, at = _places(pointer, mask)
    what = _operand(where, value)
    where.memory.put(at, what.read()[seen.data])


def _operand(where: Value, what: Any) -> Value:
    made = value(what)
    if made.block and not where.block:
        raise Refused("a tensor for a scalar pointer")
    made = made.to(where.memory.dtype)
    return spread(made, where.shape, where.layout) if where.block else made


def atomic(how: Callable[[Tensor, Tensor], Tensor], pointer: Any, val: Any, mask: Any) -> Value:
    """Each element after the other; what was there before is the result."""
    program().schedule.turn()
    where, seen, at = _places(pointer, mask)
    dtype = where.memory.dtype
    operand = _operand(where, val).read()[seen.data].reshape(-1)
    before = torch.zeros(where.shape, dtype=operand.dtype)
    flat = at.reshape(-1)
    if flat.unique().numel() == flat.numel():
        old = where.memory.take(flat)
        where.memory.put(flat, rounded(how(old, operand), dtype))
    else:
        old = torch.empty_like(operand)
        for number in range(flat.numel()):
            old[number] = where.memory.take(flat[number])
            where.memory.put(flat[number], rounded(how(old[number], operand[number]), dtype))
    before[seen.data] = old.reshape(before[seen.data].shape)
    return Value(before, dtype, where.layout)


def atomic_add(pointer: Any, val: Any, mask: Any = None, sem: Any = None, scope: Any = None) -> Value:
    return atomic(torch.add, pointer, val, mask)


def atomic_max(pointer: Any, val: Any, mask: Any = None, sem: Any = None, scope: Any = None) -> Value:
    return atomic(torch.maximum, pointer, val, mask)


def atomic_min(pointer: Any, val: Any, mask: Any = None, sem: Any = None, scope: Any = None) -> Value:
    return atomic(torch.minimum, pointer, val, mask)


def atomic_xchg(pointer: Any, val: Any, mask: Any = None, sem: Any = None, scope: Any = None) -> Value:
    return atomic(lambda old, new: new, pointer, val, mask)


def atomic_cas(pointer: Any, cmp: Any, val: Any, sem: Any = None, scope: Any = None) -> Value:
    expected = value(cmp).read()
    return atomic(lambda old, new: torch.where(old == expected, new, old), pointer, val, None)
