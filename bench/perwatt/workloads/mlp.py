"""The feed-forward part of a layer: two products, or three with a gate, and the activation between them.

Stands for: the larger part of the operations of most training steps.
Formula: gated (`swiglu`, `geglu_tanh`): (act(X Wg^T) * X Wu^T) Wd^T; plain (`gelu_tanh`, `gelu_erf`): act(X W1^T) W2^T.
FLOPs: 2 x tokens x hidden x intermediate for each weight matrix, and twice as much for the gradients; the activation
is not counted.
Bytes: not counted, as for all composites.
Gate: result and all gradients against float64, at most twice the error of the same formula in the policy's formats.
Leaves out: biases, the norm before and the addition after, dropout.

The two matrices of a gated layer arrive as one [2 x intermediate, hidden], gate first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads.base import Counts
from perwatt.workloads.function import FunctionWorkload, Operand, fan_in, products

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from perwatt.accuracy.reference_parts import Arithmetic
    from perwatt.spec.case import Case

GATED = ("swiglu", "geglu_tanh")


class MlpParams(BaseModel):
    """Parameters of a feed-forward layer.

    Attributes:
        tokens: rows of X.
        hidden: features of X.
        intermediate: features between the products, of one branch.
        activation: SwiGLU (Shazeer 2020, arXiv:2002.05202), its GELU form, or GELU by tanh or by the error function.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tokens: int = Field(ge=1, le=2**31)
    hidden: int = Field(ge=1, le=2**24)
    intermediate: int = Field(ge=1, le=2**24)
    activation: Literal["swiglu", "geglu_tanh", "gelu_tanh", "gelu_erf"] = "swiglu"

    @property
    def branches(self) -> int:
        """Products with X."""
        return 2 if self.activation in GATED else 1


class Mlp(FunctionWorkload):
    """See the module."""

    name = "mlp"
    summary = "feed-forward layer: products with an activation between"
    Params = MlpParams
    multiplies = True

    def label(self, params: MlpParams) -> str:
        """``8192x2048x8192 swiglu``: tokens x hidden x intermediate."""
        return f"{params.tokens}x{params.hidden}x{params.intermediate} {params.activation}"

    def counts(self, params: MlpParams, pass_: str, precision: Precision) -> Counts:
        """See the module."""
        return products(2.0 * params.tokens * params.hidden * params.intermediate * (params.branches + 1), pass_)

    def operands(self, params: MlpParams, precision: Precision) -> Sequence[Operand]:
        """Rows and weights."""
        hidden, width = params.hidden, params.intermediate

        def weight(name: str, *shape: int) -> Operand:
            return Operand(name=name, shape=shape, format=precision.weights, exponent=fan_in(shape[1]), product=True)

        return (
            Operand(name="x", shape=(params.tokens, hidden), format=precision.stream, rows=True, product=True),
            weight("up", params.branches * width, hidden),
            weight("down", hidden, width),
        )

    def result(self, params: MlpParams, precision: Precision) -> Operand:
        """Rows."""
        return Operand(name="dy", shape=(params.tokens, params.hidden), format=precision.activations, rows=True)

    def memory(self, case: Case, devices: int = 1) -> float:
        """As declared, and what lies between the products."""
        params: MlpParams = case.params  # type: ignore[assignment]
        between = params.tokens * params.intermediate * FORMATS[case.precision.activations]
        return super().memory(case) + between * (params.branches + 1)

    def at_once(self, params: MlpParams, precision: Precision, grad: bool) -> float:
        """As declared, and what lies between the products with its gradients."""
        return super().at_once(params, precision, grad) + (6 if grad else 4) * params.intermediate

    def plain(self, params: MlpParams, precision: Precision, device: torch.device) -> Callable[..., Tensor]:
        """The framework's linear layers, the gate's two as one."""
        from torch.nn import functional as F

        approximate = "none" if params.activation == "gelu_erf" else "tanh"

        def activated(x: Tensor) -> Tensor:
            return F.silu(x) if params.activation == "swiglu" else F.gelu(x, approximate=approximate)

        def gated(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
            gate, value = F.linear(x, up).chunk(2, dim=-1)
            return F.linear(activated(gate) * value, down)

        def straight(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
            return F.linear(activated(F.linear(x, up)), down)

        return gated if params.activation in GATED else straight

    def written(self, params: MlpParams, arithmetic: Arithmetic) -> Callable[..., Tensor]:
        """See the module."""
        import torch

        def activated(x: Tensor) -> Tensor:
            wide = x.to(arithmetic.inside)
            if params.activation == "swiglu":
                share = 1 / (1 + torch.exp(-wide))
            elif params.activation == "gelu_erf":
                share = (1 + torch.erf(wide / math.sqrt(2))) / 2
            else:
                share = (1 + torch.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3))) / 2
            return (wide * share).to(arithmetic.compute)

        def mlp(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
            if params.activation not in GATED:
                return activated(x @ up.T) @ down.T
            gate, value = up[: params.intermediate], up[params.intermediate :]
            return (activated(x @ gate.T) * (x @ value.T)) @ down.T

        return mlp


WORKLOAD = Mlp()
