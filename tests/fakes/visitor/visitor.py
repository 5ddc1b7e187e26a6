"""Layer normalization of every token, as somebody else would add it: this file and an entry point.

Stands for: the norms of GPT-2-style models.
Formula: y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + 1e-5) over the last dimension.
FLOPs: not counted.
Bytes: the forward reads x and writes y; the backward reads the gradient of y and x, and writes that of x.
Gate: result and gradient against float64, at most twice the error of the same formula in the policy's formats.
Leaves out: weight and bias.
"""

from pydantic import BaseModel, ConfigDict, Field

from perwatt.spec.precision import FORMATS
from perwatt.workloads.base import Counts
from perwatt.workloads.function import FunctionWorkload, Operand, by_pass


class LayerNormParams(BaseModel):
    """Parameters of a norm.

    Attributes:
        tokens: rows, each normalized on its own.
        hidden: width of a row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tokens: int = Field(ge=1, le=2**31)
    hidden: int = Field(ge=1, le=2**24)


class LayerNorm(FunctionWorkload):
    """See the module."""

    name = "layernorm"
    summary = "layer normalization of every token"
    Params = LayerNormParams

    def label(self, params):
        return f"{params.tokens}x{params.hidden}"

    def counts(self, params, pass_, precision):
        x = params.tokens * params.hidden
        return Counts(bytes=by_pass(2 * x, 3 * x)[pass_] * FORMATS[precision.activations])

    def operands(self, params, precision):
        return (Operand(name="x", shape=(params.tokens, params.hidden), format=precision.activations, rows=True),)

    def result(self, params, precision):
        return Operand(name="dy", shape=(params.tokens, params.hidden), format=precision.activations, rows=True)

    def plain(self, params, precision, device):
        from torch.nn import functional as F

        def layernorm(x):
            return F.layer_norm(x, (params.hidden,))

        return layernorm

    def written(self, params, arithmetic):
        def layernorm(x):
            wide = x.to(arithmetic.inside)
            wide = wide - wide.mean(dim=-1, keepdim=True)
            return (wide / ((wide * wide).mean(dim=-1, keepdim=True) + 1e-5).sqrt()).to(arithmetic.compute)

        return layernorm


WORKLOAD = LayerNorm()
