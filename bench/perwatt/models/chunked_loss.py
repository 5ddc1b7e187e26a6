"""Output projection and cross entropy a group of rows at a time, their gradients taken while the logits are there.

Products take all rows of a group. Its logits lie in one buffer, in the format of products, and their gradient replaces
them: a few rows become float32 at a time, or, where that is compiled, none does outside of registers. The gradient of
the weight is added up in the format it is given in: a narrow one is rounded once for each group, so groups are few.
Where it is given wider, each product is rounded to the format of products, as autocast rounds it; those meet it a slice
at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perwatt.spec.precision import FORMATS, Precision

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Differentiate = Callable[[Tensor, Tensor, Tensor, float], Tensor]
    """Takes logits [rows, vocab], labels and shares [rows, 1] and a factor; gives the loss. Where the factor is not 0,
    logits become ``factor`` times their gradient."""

GROUPS = 6  # of rows: the fewer, the fewer roundings of a narrow sum and the less flat the products
LEAST_ROWS = 128  # of a group, where there are as many: flatter products are slower
WIDE_ROWS = 32  # of logits that are in float32 at once
SLICES = 16  # of the product that is added to a wider gradient of the weight


def rows_of_group(tokens: int) -> int:
    """Rows whose logits are there at once."""
    return max(min(LEAST_ROWS, tokens), -(-tokens // GROUPS))


def memory(tokens: int, hidden: int, vocab: int, precision: Precision, *, gradients: bool) -> float:
    """Bytes at the peak beside the operands, the gradients and the loss; but for a few numbers a row."""
    copies = (vocab + rows_of_group(tokens)) * hidden * FORMATS[precision.compute]
    wider = precision.casts == "autocast"
    return (copies if wider else 0.0) + working(tokens, hidden, vocab, precision.compute, wider=wider and gradients)


def working(tokens: int, hidden: int, vocab: int, compute: str, *, wider: bool) -> float:
    """Bytes of the buffer of logits and of what is there beside it.

    Args:
        tokens: rows in all.
        hidden: of each.
        vocab: logits of each.
        compute: format of products.
        wider: whether the gradient of the weight is taken, and given in a wider format.
    """
    width, rows = FORMATS[compute], rows_of_group(tokens)
    wide = min(WIDE_ROWS, rows) * vocab * 4.0 if width < FORMATS["fp32"] else 0.0
    products = max(rows, -(-vocab // SLICES)) * hidden * width if wider else 0.0
    return rows * vocab * width + max(wide, products)


def differentiable(
    compute: torch.dtype, factor: float = 1.0, differentiate: Differentiate | None = None
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """``loss(x, w, labels, shares)``, whose backward pass has nothing left to do but to multiply.

    Args:
        compute: format of operands of products, and of logits.
        factor: what flows into the backward pass, as far as it is known: gradients in 16 bits have it before they are
            rounded.
        differentiate: what becomes of a group's logits; :func:`in_pieces` unless given.
    """
    import torch

    turn = differentiate or in_pieces

    class ChunkedLoss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, w: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
            wanted = any(ctx.needs_input_grad)
            loss, *gradients = _loss_and_gradients(x, w, labels, shares, compute, factor if wanted else 0.0, turn)
            ctx.save_for_backward(*gradients)
            return loss

        @staticmethod
        def backward(ctx: Any, *flowing: Any) -> Any:
            dx, dw = ctx.saved_tensors
            rest = flowing[0] / factor
            return dx.mul_(rest), dw.mul_(rest), None, None

    def loss(x: Tensor, w: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
        found: Tensor = ChunkedLoss.apply(x, w, labels, shares)  # type: ignore[no-untyped-call]
        return found

    return loss


def _loss_and_gradients(
    x: Tensor, w: Tensor, labels: Tensor, shares: Tensor, compute: torch.dtype, factor: float, turn: Differentiate
) -> list[Tensor]:
    """Loss of logits ``x w^T``, and unless ``factor`` is 0 that many times the gradients of both.

    Args:
        x: [tokens, hidden].
        w: [vocab, hidden].
        labels: [tokens].
        shares: [tokens, 1], what the loss of each row is multiplied by before they are added up.
        compute: see :func:`differentiable`.
        factor: likewise.
        turn: likewise.
    """
    import torch

    tokens, weight = x.shape[0], w.to(compute)
    loss = torch.zeros((), device=x.device)
    gradients = [torch.empty_like(x), torch.empty_like(w)] if factor else []
    rows = rows_of_group(tokens)
    buffer = torch.empty(rows, w.shape[0], device=x.device, dtype=compute)
    for start in range(0, tokens, rows):
        own = slice(start, min(start + rows, tokens))
        few, logits = x[own].to(compute), buffer[: own.stop - start]
        torch.mm(few, weight.T, out=logits)
        loss += turn(logits, labels[own, None], shares[own], factor)
        if gradients:
            dx, dw = gradients
            _put(dx[own], logits, weight)
            _add(dw, logits, few, first=start == 0)
    return [loss, *gradients]


def in_pieces(logits: Tensor, labels: Tensor, shares: Tensor, factor: float) -> Tensor:
    """A few rows at a time, each operation by itself."""
    import torch

    pieces = zip(logits.split(WIDE_ROWS), labels.split(WIDE_ROWS), shares.split(WIDE_ROWS), strict=True)
    return torch.stack([_piece(*piece, factor) for piece in pieces]).sum()


def _piece(narrow: Tensor, target: Tensor, share: Tensor, factor: float) -> Tensor:
    wide = narrow.float()
    at_label, top = wide.gather(-1, target), wide.amax(dim=-1, keepdim=True)
    sums = wide.sub_(top).exp_().sum(dim=-1, keepdim=True)
    loss = ((sums.log() + top - at_label) * share).sum()
    if factor:
        share = share * factor
        wide.mul_(share / sums)
        wide.scatter_add_(-1, target, -share)
        if wide is not narrow:
            narrow.copy_(wide)
    return loss


def at_once(logits: Tensor, labels: Tensor, shares: Tensor, factor: float) -> Tensor:
    """All rows in one formula, to be compiled: then nothing as large as the logits is kept beside them."""
    import torch

    wide = logits.float()
    log_sums = wide.logsumexp(dim=-1, keepdim=True)
    loss = ((log_sums - wide.gather(-1, labels)) * shares).sum()
    if factor:
        chosen = torch.arange(logits.shape[-1], device=logits.device) == labels
        logits.copy_(((wide - log_sums).exp() - chosen.float()) * (shares * factor))
    return loss


def _put(result: Tensor, a: Tensor, b: Tensor) -> None:
    """``result`` becomes ``a b``, rounded to the format of products first where it is wider."""
    import torch

    if result.dtype == a.dtype:
        torch.mm(a, b, out=result)
    else:
        result.copy_(a @ b)


def _add(total: Tensor, flowing: Tensor, few: Tensor, *, first: bool) -> None:
    """``flowing^T few`` is added to ``total``, which holds nothing before the first."""
    if total.dtype == few.dtype:
        total.addmm_(flowing.T, few, beta=0.0 if first else 1.0)
        return
    step = -(-total.shape[0] // SLICES)
    for part, by_column in zip(total.split(step), flowing.T.split(step), strict=True):
        part.copy_(by_column @ few) if first else part.add_(by_column @ few)
