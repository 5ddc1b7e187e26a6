"""Operators that instructions take as ``op`` (shared, supported math operators and activation functions).

In NKI they are functions of ``nki.language``, some of which also work on whole tiles as experimental conveniences; here
they are only names of operations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from perwatt_kernels.nki_interpreter.errors import Rejected
from perwatt_kernels.nki_interpreter.formats import Array

Function = Any  # one of NumPy's, or like one
_erf: Any = np.frompyfunc(math.erf, 1, 1)


@dataclass(frozen=True, slots=True)
class Operator:
    """An operation.

    Attributes:
        name: as NKI calls it.
        kind: ``bitvec``, ``arithmetic``, ``unary``, ``activation``, or ``unsupported`` on the device.
        alu: on float32, or on bits; None where only the scalar engine has it.
        activation: on the scalar engine; None where it has not.
        reduces: whether a reduction may use it.
        start: what a reduction with it begins with.
        domain: magnitudes that the scalar engine is right for.
        positive: whether only positive values are.
    """

    name: str
    kind: str
    alu: Function | None = None
    activation: Function | None = None
    reduces: bool = False
    start: float = 0.0
    domain: tuple[float, float] | None = None
    positive: bool = False

    def __call__(self, *args: object, **kwargs: object) -> None:
        """Refused: on tiles these are conveniences that compile to instructions of their own choice."""
        raise Rejected(f"nl.{self.name} on tiles is experimental; use an instruction of nki.isa with op=nl.{self.name}")

    def activate(self, values: Array) -> Array:
        """As the scalar engine does.

        Raises:
            Rejected: a value lies where its result is invalid.
        """
        if self.domain is not None:
            size = values if self.positive else np.abs(values)
            bad = (size < self.domain[0]) | (size > self.domain[1])
            if bad.any():
                raise Rejected(
                    f"activation: nl.{self.name} of {values[bad][0]:g}, expected"
                    f" {'' if self.positive else '+-'}[{self.domain[0]:g}, {self.domain[1]:g}] (shared, activation)"
                )
        assert self.activation is not None
        with np.errstate(over="ignore", invalid="ignore"):
            found: Array = np.asarray(self.activation(values), np.float32)
        return found


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _gelu(x: Array) -> Array:
    return np.asarray(x * 0.5 * (1 + _erf(x / math.sqrt(2)).astype(np.float32)))


def _gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def _compare(function: Function) -> Function:
    return lambda x, y: function(x, y).astype(np.float32)


_inf = math.inf
OPERATORS = {
    found.name: found
    for found in (
        Operator("add", "arithmetic", np.add, reduces=True),
        Operator("subtract", "arithmetic", np.subtract, reduces=True),
        Operator("multiply", "arithmetic", np.multiply, reduces=True, start=1.0),
        Operator("maximum", "arithmetic", np.maximum, reduces=True, start=-_inf),
        Operator("minimum", "arithmetic", np.minimum, reduces=True, start=_inf),
        Operator("equal", "arithmetic", _compare(np.equal)),
        Operator("not_equal", "arithmetic", _compare(np.not_equal)),
        Operator("greater", "arithmetic", _compare(np.greater)),
        Operator("greater_equal", "arithmetic", _compare(np.greater_equal)),
        Operator("less", "arithmetic", _compare(np.less)),
        Operator("less_equal", "arithmetic", _compare(np.less_equal)),
        Operator("logical_and", "arithmetic", _compare(np.logical_and), reduces=True, start=1.0),
        Operator("logical_or", "arithmetic", _compare(np.logical_or), reduces=True),
        Operator("logical_xor", "arithmetic", _compare(np.logical_xor), reduces=True),
        Operator("power", "arithmetic", np.power),
        Operator("abs_max", "arithmetic", lambda x, y: np.maximum(np.abs(x), np.abs(y))),
        Operator("abs_min", "arithmetic", lambda x, y: np.minimum(np.abs(x), np.abs(y))),
        Operator("bitwise_and", "bitvec", np.bitwise_and, reduces=True),
        Operator("bitwise_or", "bitvec", np.bitwise_or, reduces=True),
        Operator("bitwise_xor", "bitvec", np.bitwise_xor, reduces=True),
        Operator("left_shift", "bitvec", np.left_shift),
        Operator("right_shift", "bitvec", np.right_shift),
        Operator("abs", "unary", np.abs, np.abs),
        Operator("square", "unary", np.square, np.square),
        Operator("relu", "unary", lambda x: np.maximum(x, 0), lambda x: np.maximum(x, 0)),
        Operator("rsqrt", "unary", lambda x: 1 / np.sqrt(x), lambda x: 1 / np.sqrt(x), domain=(2.0**-87, 2.0**97),
                 positive=True),
        Operator("reciprocal", "unary", np.reciprocal, np.reciprocal, domain=(2.0**-42, 2.0**42)),
        Operator("copy", "activation", activation=np.array),
        Operator("exp", "activation", activation=np.exp),
        Operator("log", "activation", activation=np.log, domain=(2.0**-64, 2.0**64), positive=True),
        Operator("sqrt", "activation", activation=np.sqrt, domain=(2.0**-116, 2.0**118), positive=True),
        Operator("tanh", "activation", activation=np.tanh),
        Operator("sigmoid", "activation", activation=_sigmoid),
        Operator("silu", "activation", activation=lambda x: x * _sigmoid(x)),
        Operator("gelu", "activation", activation=_gelu),
        Operator("gelu_apprx_tanh", "activation", activation=_gelu_tanh),
        Operator("erf", "activation", activation=lambda x: _erf(x).astype(np.float32)),
        Operator("sign", "activation", activation=np.sign),
        Operator("divide", "unsupported"),
        Operator("mod", "unsupported"),
        Operator("fmod", "unsupported"),
    )
}  # fmt: skip


def operator(where: str, op: object, kinds: tuple[str, ...], *, activation: bool = False) -> Operator:
    """An operator that an instruction can take.

    Raises:
        Rejected: it cannot take that one.
    """
    fits = isinstance(op, Operator) and (op.activation is not None if activation else op.kind in kinds)
    if not fits:
        name = f"nl.{op.name}" if isinstance(op, Operator) else repr(op)
        known = [f.name for f in OPERATORS.values() if (f.activation if activation else f.kind in kinds)]
        raise Rejected(f"{where}: found {name}, expected one of {', '.join(known)} (shared, math operators)")
    assert isinstance(op, Operator)
    return op
