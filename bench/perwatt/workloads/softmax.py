"""Softmax over the last dimension of a matrix.

Stands for: the softmax inside attention that is written out, and of routers; it shows exponentials and row reductions.
Formula: y_j = exp(x_j - max x) / sum_k exp(x_k - max x), in float32 inside.
FLOPs: not counted; a rate of operations would say nothing of a chip here.
Bytes: the forward reads x [tokens, hidden] and writes y; the backward reads y and the gradient of y, and writes that
of x.
Gate: result and gradient against float64, whole and row by row, at most twice the error of the same formula in the
policy's formats.
Leaves out: masks and scaling, which attention fuses with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads.base import Counts
from perwatt.workloads.function import FunctionWorkload, Operand, by_pass

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from perwatt.accuracy.reference_parts import Arithmetic


class SoftmaxParams(BaseModel):
    """Parameters of a softmax.

    Attributes:
        tokens: rows, each on its own.
        hidden: width of a row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tokens: int = Field(ge=1, le=2**31)
    hidden: int = Field(ge=1, le=2**24)


class Softmax(FunctionWorkload):
    """See the module."""

    name = "softmax"
    summary = "softmax of every row"
    Params = SoftmaxParams

    def label(self, params: SoftmaxParams) -> str:
        """``8192x4096``."""
        return f"{params.tokens}x{params.hidden}"

    def counts(self, params: SoftmaxParams, pass_: str, precision: Precision) -> Counts:
        """See the module."""
        x = params.tokens * params.hidden
        return Counts(bytes=by_pass(2 * x, 3 * x)[pass_] * FORMATS[precision.activations])

    def operands(self, params: SoftmaxParams, precision: Precision) -> Sequence[Operand]:
        """Rows."""
        shape = (params.tokens, params.hidden)
        return (Operand(name="x", shape=shape, format=precision.activations, rows=True),)

    def result(self, params: SoftmaxParams, precision: Precision) -> Operand:
        """Shares, each row summing to one."""
        shape = (params.tokens, params.hidden)
        return Operand(name="dy", shape=shape, format=precision.activations, rows=True)

    def plain(self, params: SoftmaxParams, precision: Precision, device: torch.device) -> Callable[..., Tensor]:
        """The framework's own, which takes narrow formats through float32 inside."""

        def softmax(x: Tensor) -> Tensor:
            return x.softmax(dim=-1)

        return softmax

    def written(self, params: SoftmaxParams, arithmetic: Arithmetic) -> Callable[..., Tensor]:
        """See the module."""

        def softmax(x: Tensor) -> Tensor:
            wide = x.to(arithmetic.inside)
            powers = (wide - wide.amax(dim=-1, keepdim=True)).exp()
            return (powers / powers.sum(dim=-1, keepdim=True)).to(arithmetic.compute)

        return softmax


WORKLOAD = Softmax()
