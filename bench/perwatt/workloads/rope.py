"""Rotary position embedding of the queries or keys of one sequence.

Stands for: the rotation before attention in models with rotary positions.
Formula: in each head, pair (x_i, x_{i + d/2}) of position p is turned by the angle p x theta^(-2i/d), in float32.
FLOPs: not counted; a rate of operations would say nothing of a chip here.
Bytes: the forward reads x [tokens, heads, head_dim] and the cosines and sines [tokens, head_dim / 2] in float32, and
writes as much as x; the backward does the same with gradients.
Gate: result and gradient against float64, whole and row by row, at most twice the error of the same formula in the
policy's formats.
Leaves out: making the cosines and sines, which a step does once; stretched frequencies, which cost the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads.base import Counts
from perwatt.workloads.function import FunctionWorkload, Operand, by_pass

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from perwatt.accuracy.reference_parts import Arithmetic


class RopeParams(BaseModel):
    """Parameters of a rotation.

    Attributes:
        tokens: positions 0 to tokens - 1 of one sequence.
        heads: heads that are turned alike.
        head_dim: width of a head, even.
        theta: base of the frequencies.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    tokens: int = Field(ge=1, le=2**24)
    heads: int = Field(ge=1, le=2**14)
    head_dim: int = Field(ge=2, le=2**12)
    theta: float = Field(default=10000.0, gt=0)

    @model_validator(mode="after")
    def _even(self) -> RopeParams:
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd, which rope cannot rotate")
        return self


class RopeWorkload(FunctionWorkload):
    """See the module."""

    name = "rope"
    summary = "rotary position embedding"
    Params = RopeParams

    def label(self, params: RopeParams) -> str:
        """``8192x32x128``: tokens x heads x head_dim."""
        return f"{params.tokens}x{params.heads}x{params.head_dim}"

    def counts(self, params: RopeParams, pass_: str, precision: Precision) -> Counts:
        """See the module."""
        x = params.tokens * params.heads * params.head_dim * FORMATS[precision.activations]
        table = params.tokens * params.head_dim * FORMATS["fp32"]
        return Counts(bytes=by_pass(2 * x + table, 2 * x + table)[pass_])

    def operands(self, params: RopeParams, precision: Precision) -> Sequence[Operand]:
        """What is turned."""
        return (Operand(name="x", shape=_shape(params), format=precision.activations, rows=True, along=1),)

    def result(self, params: RopeParams, precision: Precision) -> Operand:
        """What was turned."""
        return Operand(name="dy", shape=_shape(params), format=precision.activations, rows=True, along=1)

    def plain(self, params: RopeParams, precision: Precision, device: torch.device) -> Callable[..., Tensor]:
        """As the models do it, with tables made beforehand."""
        from perwatt.models.places import rotate, rotation
        from perwatt.spec.model import Rope

        cos, sin = (t.to(device) for t in rotation(Rope(theta=params.theta), params.head_dim, params.tokens))

        def rope(x: Tensor) -> Tensor:
            return rotate(x, cos, sin)

        return rope

    def written(self, params: RopeParams, arithmetic: Arithmetic) -> Callable[..., Tensor]:
        """Pairs as complex numbers, turned by multiplication; the angles are formed in float64 in every arithmetic."""
        import torch

        def rope(x: Tensor) -> Tensor:
            half = params.head_dim // 2
            exponents = torch.arange(half, dtype=torch.float64) / half
            angles = torch.arange(params.tokens, dtype=torch.float64)[:, None] * params.theta**-exponents
            turn = torch.polar(torch.ones_like(angles), angles)[:, None]
            real, imaginary = (part.to(x.device, arithmetic.inside) for part in (turn.real, turn.imag))
            a, b = x[..., :half].to(arithmetic.inside), x[..., half:].to(arithmetic.inside)
            return torch.cat((a * real - b * imaginary, a * imaginary + b * real), dim=-1).to(arithmetic.compute)

        return rope


def _shape(params: RopeParams) -> tuple[int, ...]:
    return params.tokens, params.heads, params.head_dim


WORKLOAD = RopeWorkload()
