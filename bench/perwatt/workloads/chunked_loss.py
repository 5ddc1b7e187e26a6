"""Output projection and cross entropy a group of rows at a time, their gradients taken while the logits are there.

Products take all rows of a group. Its logits lie in one buffer, in the format of products; a few rows of them at a time
become float32, and their gradient replaces them. The gradient of the weight is added up in the format it is given in:
a narrow one is rounded once for each group, so groups are few. Under autocast it is given in float32, while each
product is rounded to the format of products, as autocast rounds it; those meet it a slice at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perwatt.spec.precision import FORMATS, Precision

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GROUPS = 6  # of rows: the fewer, the fewer roundings of a narrow sum and the less flat the products
LEAST_ROWS = 128  # of a group, where there are as many: flatter products are slower
WIDE_ROWS = 32  # of logits that are in float32 at once
SLICES = 16  # of the product that is added to a wider gradient of the weight


def rows_of_group(tokens: int) -> int:
    """Rows whose logits are there at once."""
    return max(min(LEAST_ROWS, tokens), -(-tokens // GROUPS))


def memory(tokens: int, hidden: int, vocab: int, precision: Precision, *, gradients: bool) -> float:
    """Bytes at the peak beside the operands, the gradients and the loss; but for a few numbers a row."""
    width = FORMATS[precision.compute]
    rows = rows_of_group(tokens)
    buffer = rows * vocab * width
    wide = min(WIDE_ROWS, rows) * vocab * 4.0 if width < FORMATS["fp32"] else 0.0
    if precision.casts != "autocast":
        return buffer + wide
    copies = (vocab + rows) * hidden * width
    products = max(rows, -(-vocab // SLICES)) * hidden * width if gradients else 0.0
    return copies + buffer + max(wide, products)


def loss_and_gradients(
    x: Tensor, w: Tensor, labels: Tensor, compute: torch.dtype, *, gradients: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Mean loss of logits ``x w^T``, and the gradients of both.

    Args:
        x: [tokens, hidden].
        w: [vocab, hidden].
        labels: [tokens].
        compute: format of operands of products, and of logits.
        gradients: whether they are wanted.
    """
    import torch

    tokens, weight = x.shape[0], w.to(compute)
    loss = torch.zeros((), device=x.device)
    dx, dw = (torch.empty_like(x), torch.empty_like(w)) if gradients else (None, None)
    rows = rows_of_group(tokens)
    buffer = torch.empty(rows, w.shape[0], device=x.device, dtype=compute)
    for start in range(0, tokens, rows):
        own = slice(start, min(start + rows, tokens))
        few, logits = x[own].to(compute), buffer[: own.stop - start]
        torch.mm(few, weight.T, out=logits)
        loss += _differentiate(logits, labels[own], tokens, gradients)
        if dx is not None and dw is not None:
            _put(dx[own], logits, weight)
            _add(dw, logits, few, first=start == 0)
    return loss / tokens, dx, dw


def _differentiate(logits: Tensor, labels: Tensor, tokens: int, gradients: bool) -> Tensor:
    """Summed loss of some rows; where wanted, ``logits`` become the gradient of the mean over ``tokens`` by them."""
    import torch

    pieces = zip(logits.split(WIDE_ROWS), labels[:, None].split(WIDE_ROWS), strict=True)
    return torch.stack([_piece(narrow, target, tokens, gradients) for narrow, target in pieces]).sum()


def _piece(narrow: Tensor, target: Tensor, tokens: int, gradients: bool) -> Tensor:
    wide = narrow.float()
    at_label, top = wide.gather(-1, target), wide.amax(dim=-1, keepdim=True)
    sums = wide.sub_(top).exp_().sum(dim=-1, keepdim=True)
    loss = (sums.log() + top - at_label).sum()
    if gradients:
        wide.div_(sums * tokens)
        wide.scatter_add_(-1, target, wide.new_full(target.shape, -1 / tokens))
        if wide is not narrow:
            narrow.copy_(wide)
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
