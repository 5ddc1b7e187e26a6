"""The operators of the language: which rule mixes their operands, and how."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """Of integers, towards zero."""
    return torch.div(a, b, rounding_mode="trunc")


class Operators:
    """What Python's operators do with values; a value itself says by which rule formats and layouts mix."""

    __hash__ = object.__hash__

    def mix(self, rule: str, how: Callable[[Tensor, Tensor], Tensor], a: Any, b: Any, division: bool = False) -> Any:
        raise NotImplementedError

    def __add__(self, other: Any) -> Any:
        return self.mix("arithmetic", operator.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return self.mix("arithmetic", operator.add, other, self)

    def __sub__(self, other: Any) -> Any:
        return self.mix("arithmetic", operator.sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return self.mix("arithmetic", operator.sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return self.mix("arithmetic", operator.mul, self, other)

    def __rmul__(self, other: Any) -> Any:
        return self.mix("arithmetic", operator.mul, other, self)

    def __mod__(self, other: Any) -> Any:
        return self.mix("arithmetic", torch.fmod, self, other, division=True)

    def __rmod__(self, other: Any) -> Any:
        return self.mix("arithmetic", torch.fmod, other, self, division=True)

    def __truediv__(self, other: Any) -> Any:
        return self.mix("divided", operator.truediv, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self.mix("divided", operator.truediv, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return self.mix("integral", quotient, self, other, division=True)

    def __rfloordiv__(self, other: Any) -> Any:
        return self.mix("integral", quotient, other, self, division=True)

    def __and__(self, other: Any) -> Any:
        return self.mix("integral", operator.and_, self, other)

    def __rand__(self, other: Any) -> Any:
        return self.mix("integral", operator.and_, other, self)

    def __or__(self, other: Any) -> Any:
        return self.mix("integral", operator.or_, self, other)

    def __ror__(self, other: Any) -> Any:
        return self.mix("integral", operator.or_, other, self)

    def __xor__(self, other: Any) -> Any:
        return self.mix("integral", operator.xor, self, other)

    def __rxor__(self, other: Any) -> Any:
        return self.mix("integral", operator.xor, other, self)

    def __lshift__(self, other: Any) -> Any:
        return self.mix("integral", operator.lshift, self, other)

    def __rlshift__(self, other: Any) -> Any:
        return self.mix("integral", operator.lshift, other, self)

    def __rshift__(self, other: Any) -> Any:
        return self.mix("integral", operator.rshift, self, other)

    def __rrshift__(self, other: Any) -> Any:
        return self.mix("integral", operator.rshift, other, self)

    def __eq__(self, other: Any) -> Any:
        return self.mix("compared", operator.eq, self, other)

    def __ne__(self, other: Any) -> Any:
        return self.mix("compared", operator.ne, self, other)

    def __lt__(self, other: Any) -> Any:
        return self.mix("compared", operator.lt, self, other)

    def __le__(self, other: Any) -> Any:
        return self.mix("compared", operator.le, self, other)

    def __gt__(self, other: Any) -> Any:
        return self.mix("compared", operator.gt, self, other)

    def __ge__(self, other: Any) -> Any:
        return self.mix("compared", operator.ge, self, other)

    def __neg__(self) -> Any:
        return self.mix("arithmetic", operator.sub, 0, self)
