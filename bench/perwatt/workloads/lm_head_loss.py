"""The output projection and the loss behind it, together: where a training step needs most memory at once.

Stands for: the end of the forward and the start of the backward of a training step.
Formula: logits = X W^T in the logits' format, then the mean cross entropy in float32.
FLOPs: 2 x tokens x hidden x vocab for the projection, and as much for the gradient of X and for that of W.
Bytes: not counted, as for all composites.
Gate: loss and both gradients against float64, at most twice the error of the same formula in the policy's formats.
Leaves out: a bias of the projection, soft caps, ignored labels.

`torch` keeps all logits from forward to backward. `chunked` never has more than a few rows of them: it takes the
gradients of each chunk while its logits are there, in the forward, so that nothing is computed twice. It therefore has
no backward that could be timed alone, and no forward that saves for one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

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

CHUNKS = 16  # at least; memory of the logits goes down with it, and products get flatter
LEAST_ROWS = 128  # of a chunk, where there are as many: flatter products are slower


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

    def label(self, params: LmHeadLossParams) -> str:
        """``8192x2048x128256``: tokens x hidden x vocab."""
        return f"{params.tokens}x{params.hidden}x{params.vocab}"

    def counts(self, params: LmHeadLossParams, pass_: str, precision: Precision) -> Counts:
        """See the module."""
        return products(2.0 * params.tokens * params.hidden * params.vocab, pass_, params.tokens)

    def operands(self, params: LmHeadLossParams, precision: Precision) -> Sequence[Operand]:
        """Rows, weight and labels."""
        act = precision.activations
        return (
            Operand(name="x", shape=(params.tokens, params.hidden), format=act, rows=True),
            Operand(name="w", shape=(params.vocab, params.hidden), format=act, exponent=fan_in(params.hidden)),
            indices("labels", params.tokens, params.vocab),
        )

    def result(self, params: LmHeadLossParams, precision: Precision) -> Operand:
        """The loss."""
        return scalar("dloss")

    def memory(self, case: Case, devices: int = 1) -> float:
        """Operands and gradients; unless every impl works in chunks, also the logits, in float32 too."""
        params: LmHeadLossParams = case.params  # type: ignore[assignment]
        logits = params.tokens * params.vocab * (FORMATS[case.precision.logits] + 4.0 * (2 if case.grad else 1))
        return super().memory(case) + (0.0 if set(map(plain, case.impls)) == {"chunked"} else logits)

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

    logits_format = dtype(case.precision.logits)

    class ChunkedLoss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, w: Tensor, labels: Tensor) -> Tensor:
            wanted = any(ctx.needs_input_grad)
            loss, dx, dw = _loss_in_chunks(x, w, labels, logits_format, gradients=wanted)
            if wanted:
                ctx.save_for_backward(dx, dw)
            return loss

        @staticmethod
        def backward(ctx: Any, *flowing: Any) -> Any:
            dx, dw = ctx.saved_tensors
            (incoming,) = flowing
            return dx.mul_(incoming), dw.mul_(incoming), None

    def loss(x: Tensor, w: Tensor, labels: Tensor) -> Tensor:
        found: Tensor = ChunkedLoss.apply(x, w, labels)  # type: ignore[no-untyped-call]
        return found

    return loss


def _loss_in_chunks(
    x: Tensor, w: Tensor, labels: Tensor, logits_format: torch.dtype, *, gradients: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Mean loss, and the gradients of ``x`` and ``w``. That of ``w`` is summed over chunks in float32."""
    import torch

    tokens = x.shape[0]
    rows = max(min(LEAST_ROWS, tokens), tokens // CHUNKS)
    loss = torch.zeros((), device=x.device)
    dx = torch.empty_like(x) if gradients else None
    dw = torch.zeros(w.shape, device=w.device, dtype=torch.float32) if gradients else None
    for chunk in torch.arange(tokens, device="cpu").split(rows):
        own = slice(int(chunk[0]), int(chunk[-1]) + 1)
        logits = (x[own] @ w.T).to(logits_format).float()
        log_sums = logits.logsumexp(dim=-1, keepdim=True)
        target = labels[own, None]
        loss += (log_sums - logits.gather(-1, target)).sum()
        if dx is None or dw is None:
            continue
        logits.sub_(log_sums).exp_()
        logits.scatter_add_(-1, target, logits.new_full(target.shape, -1.0)).div_(tokens)
        flowing = logits.to(logits_format).to(x.dtype)
        torch.mm(flowing, w, out=dx[own])
        dw.addmm_(flowing.T, x[own]) if w.dtype == torch.float32 else dw.add_(flowing.T @ x[own])
    return loss / tokens, dx, None if dw is None else dw.to(w.dtype)


WORKLOAD = LmHeadLoss()
