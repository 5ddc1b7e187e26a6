"""The output projection and the loss behind it, together: where a training step needs most memory at once.

Stands for: the end of the forward and the start of the backward of a training step.
Formula: logits = X W^T in the logits' format, then the mean cross entropy in float32.
FLOPs: 2 x tokens x hidden x vocab for the projection, and as much for the gradient of X and for that of W.
Bytes: not counted, as for all composites.
Gate: loss and both gradients against float64, at most twice the error of the same formula in the policy's formats.
Leaves out: a bias of the projection, soft caps, ignored labels.

`torch` keeps all logits from forward to backward, at its peak three times over in float32. `chunked` never has more
than those of a few rows: it takes their gradients while they are there, in the forward, so that nothing is computed
twice. It therefore has no backward that could be timed alone, and no forward that saves for one. Beside the gradients,
which every implementation has to give, and autocast's copies of X and W, it takes a sixteenth of the memory of
`torch`. In all, 8192 tokens at hidden 4096 and vocab 131072 take 1.4 instead of 12 GiB in bf16, of which 1.1 are
gradients; under autocast 3.5 instead of 13.1, of which 3.2 are gradients and copies. The fewer the tokens, the less is
saved in all.

`chunked` adds the gradient of W up in the format it is given in. In 16 bits it is rounded six times, and errs up to
twice as much as the gradient of `torch`; the gate has one bound for both. Under autocast that gradient is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from perwatt.models import chunked_loss
from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads.base import Counts, Impl
from perwatt.workloads.cross_entropy import summed_loss
from perwatt.workloads.function import FunctionWorkload, Operand, fan_in, indices, products, scalar
from perwatt.workloads.variants import captured, plain
from perwatt_kernels.dtypes import dtype

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from perwatt.accuracy.reference_parts import Arithmetic
    from perwatt.backends.base import Backend
    from perwatt.spec.case import Case

WHOLE_FORWARD, WHOLE_BACKWARD = 2, 3
"""Tensors of all logits in float32 at the peak: given and normalized; then the gradients of both beside the second."""


class LmHeadLossParams(BaseModel):
    """Parameters of projection and loss.

    Attributes:
        tokens: rows of X.
        hidden: features of X.
        vocab: rows of W, as padded.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tokens: int = Field(ge=1, le=2**31)
    hidden: int = Field(ge=1, le=2**24)
    vocab: int = Field(ge=1, le=2**24)


class LmHeadLoss(FunctionWorkload):
    """See the module."""

    name = "lm_head_loss"
    summary = "output projection and cross entropy, with all logits kept or in chunks"
    Params = LmHeadLossParams
    multiplies = True

    def label(self, params: LmHeadLossParams) -> str:
        """``8192x2048x128256``: tokens x hidden x vocab."""
        return f"{params.tokens}x{params.hidden}x{params.vocab}"

    def counts(self, params: LmHeadLossParams, pass_: str, precision: Precision) -> Counts:
        """See the module."""
        return products(2.0 * params.tokens * params.hidden * params.vocab, pass_, params.tokens)

    def operands(self, params: LmHeadLossParams, precision: Precision) -> Sequence[Operand]:
        """Rows, weight and labels."""
        shape, weight = (params.tokens, params.hidden), (params.vocab, params.hidden)
        return (
            Operand(name="x", shape=shape, format=precision.stream, rows=True, product=True),
            Operand(name="w", shape=weight, format=precision.weights, exponent=fan_in(params.hidden), product=True),
            indices("labels", params.tokens, params.vocab),
        )

    def result(self, params: LmHeadLossParams, precision: Precision) -> Operand:
        """The loss."""
        return scalar("dloss")

    def memory(self, case: Case, devices: int = 1) -> float:
        """Operands, and what the case's impl has at its peak: the logits thrice over, or the gradients beside some."""
        params: LmHeadLossParams = case.params  # type: ignore[assignment]
        x, w, labels = (one.bytes for one in self.operands(params, case.precision))
        gradients = x + w if case.grad else 0.0
        if set(map(plain, case.impls)) == {"chunked"}:
            extents = params.tokens, params.hidden, params.vocab
            peak = gradients + chunked_loss.memory(*extents, case.precision, gradients=case.grad)
        else:
            logits = params.tokens * params.vocab
            whole = (WHOLE_BACKWARD if case.grad else WHOLE_FORWARD) * FORMATS["fp32"] * logits
            peak = self.cast_bytes(case) + max(whole, logits * FORMATS[case.precision.logits] + gradients)
        return x + w + labels + peak

    def at_once(self, params: LmHeadLossParams, precision: Precision, grad: bool) -> float:
        """As declared, and the logits with what the loss makes of them."""
        return super().at_once(params, precision, grad) + (5 if grad else 3) * params.vocab

    def impls(self) -> Mapping[str, Impl]:
        """Eager, compiled, and in chunks."""
        chunked = Impl(
            name="chunked", impl_class="eager", build=_chunked, unsupported=_unchunkable,
            summary="never all logits at once: gradients of each chunk are taken in the forward",
        )  # fmt: skip
        return captured({**super().impls(), "chunked": chunked})

    def plain(self, params: LmHeadLossParams, precision: Precision, device: torch.device) -> Callable[..., Tensor]:
        """All logits, then the framework's loss."""
        from torch.nn import functional as F

        logits_format = dtype(precision.logits)

        def loss(x: Tensor, w: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(F.linear(x, w).to(logits_format).float(), labels)

        return loss

    def written(self, params: LmHeadLossParams, arithmetic: Arithmetic) -> Callable[..., Tensor]:
        """See the module."""

        def loss(x: Tensor, w: Tensor, labels: Tensor) -> Tensor:
            return summed_loss((x @ w.T).to(arithmetic.inside), labels) / params.tokens

        return loss


def _unchunkable(case: Case, backend: Backend) -> str | None:
    if case.pass_ == "bwd" or (case.grad and case.pass_ == "fwd"):
        return "chunked takes its gradients in the forward, so neither pass can be timed alone: use fwd+bwd"
    return None


def _chunked(case: Case, backend: Backend) -> Callable[..., Tensor]:
    import torch

    params: LmHeadLossParams = case.params  # type: ignore[assignment]
    summed = chunked_loss.differentiable(dtype(case.precision.compute))

    def loss(x: Tensor, w: Tensor, labels: Tensor) -> Tensor:
        shares = torch.full((params.tokens, 1), 1 / params.tokens, device=x.device)
        return summed(x, w, labels, shares)

    return loss


WORKLOAD = LmHeadLoss()
