"""Root-mean-square normalization of every token: two in each layer of a Llama-style model, and one before the logits.

Stands for: the norms of a training step, which do little arithmetic and are bound by memory.
Formula: y = x / sqrt(mean(x^2) + eps) * w over the last dimension, in float32 inside.
FLOPs: not counted; a rate of operations would say nothing of a chip here.
Bytes: the forward reads x [tokens, hidden] and w and writes y; the backward reads the gradient of y, x and w, and
writes the gradients of x and w. The reciprocal roots that a forward may save, one a token, are left out.
Gate: result and both gradients against float64, whole and row by row, at most twice the error of the same formula in
the policy's formats.
Leaves out: the addition to the residual stream that fused kernels do in the same pass.
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


class RmsNormParams(BaseModel):
    """Parameters of a norm.

    Attributes:
        tokens: rows, each normalized on its own.
        hidden: width of a row.
        eps: added to the mean square.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    tokens: int = Field(ge=1, le=2**31)
    hidden: int = Field(ge=1, le=2**24)
    eps: float = Field(default=1e-5, gt=0, le=1)


class RmsNorm(FunctionWorkload):
    """See the module."""

    name = "rmsnorm"
    summary = "root-mean-square normalization of every token"
    Params = RmsNormParams

    def label(self, params: RmsNormParams) -> str:
        """``8192x2048``."""
        return f"{params.tokens}x{params.hidden}"

    def counts(self, params: RmsNormParams, pass_: str, precision: Precision) -> Counts:
        """See the module."""
        x, w = params.tokens * params.hidden, params.hidden
        return Counts(bytes=by_pass(2 * x + w, 3 * x + 2 * w)[pass_] * FORMATS[precision.activations])

    def operands(self, params: RmsNormParams, precision: Precision) -> Sequence[Operand]:
        """Rows and weight."""
        return (
            Operand(name="x", shape=(params.tokens, params.hidden), format=precision.activations, rows=True),
            Operand(name="w", shape=(params.hidden,), format=precision.activations),
        )

    def result(self, params: RmsNormParams, precision: Precision) -> Operand:
        """Normalized rows."""
        return Operand(name="dy", shape=(params.tokens, params.hidden), format=precision.activations, rows=True)

    def plain(self, params: RmsNormParams, precision: Precision, device: torch.device) -> Callable[..., Tensor]:
        """The framework's own."""
        from torch.nn import functional as F

        def rmsnorm(x: Tensor, w: Tensor) -> Tensor:
            return F.rms_norm(x, (params.hidden,), w, params.eps)

        return rmsnorm

    def written(self, params: RmsNormParams, arithmetic: Arithmetic) -> Callable[..., Tensor]:
        """See the module."""

        def rmsnorm(x: Tensor, w: Tensor) -> Tensor:
            wide = x.to(arithmetic.inside)
            root = ((wide * wide).mean(dim=-1, keepdim=True) + params.eps).sqrt()
            return (wide / root * w.to(arithmetic.inside)).to(arithmetic.compute)

        return rmsnorm


WORKLOAD = RmsNorm()
