"""Gate of matrix products: fixed rows and columns against float64, and the whole by Freivalds' check.

The Frobenius norm alone would miss one lost tile of a large result. Freivalds' check (R. Freivalds, 1977) multiplies
both sides by the same random vectors, which costs two matrix-vector products and sees every element; here it is
taken row by row, and a row that errs far more than its fellows fails whatever the norm says.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from perwatt.workloads.base import Accuracy

VECTORS = 16  # random +-1 vectors: the spread of a row's error estimate is then about 18 %
OUTLIER = 6.0  # a row fails above this many times the median row error
NARROW = 64  # rows shorter than this do not average their errors enough to be told apart; they are compared whole
EXACT = 1e-13  # float64 noise: below it a row counts as exact
WHOLE = 2**30  # multiply-adds up to which the whole reference is computed
EDGES = (0, 1, 15, 16, 31, 32, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513)  # common tile edges
SEED = 20_011

_BOUNDS = {  # relative Frobenius error at a depth of about 4096 (docs/method.md, Accuracy gate)
    ("fp64", "fp64"): 1e-13,
    ("fp32", "fp32"): 1e-5,
    ("tf32", "fp32"): 5e-4,
    ("bf16", "fp32"): 1e-5,
    ("fp16", "fp32"): 1e-5,
}
_ROUNDING = {"bf16": 2.2e-3, "fp16": 2.75e-4}  # fp16 keeps three more bits than bf16
EIGHT_BITS = ("e4m3fn", "e4m3", "mxfp8")
EIGHT_BIT_SUMS = 5e-4
"""Error of the sums of 8-bit units. Hopper's keep some 14 bits (arXiv:2412.19437, section 3.3.2). Cut to that after
each 32 terms, and added up in float32 after each 128, sums err 1.2e-4 at any depth."""
FAST_SUMS = 6.5e-3
"""Without the additions in float32, which is fast accumulation: 3.2e-3 at a depth of 4096, and growing with it."""
SURE = 3.0  # times the error expected of a row whose doubtful elements were all rounded the other way


def bound(compute: str, output: str, depth: int, fast: bool = False) -> float:
    """Relative Frobenius error above which no product passes.

    Args:
        compute: format of the operands.
        output: format of the result; a narrow one is dominated by its last rounding.
        depth: number of terms of each sum; the error of an accumulation grows with its root.
        fast: partial sums of 8-bit products are kept short.
    """
    if compute in EIGHT_BITS:
        sums = FAST_SUMS * max(1.0, depth / 4096) if fast else EIGHT_BIT_SUMS
        return math.hypot(_ROUNDING.get(output, 0.0), sums)
    if output in _ROUNDING:
        return _ROUNDING[output]
    return _BOUNDS[compute, output] * math.sqrt(max(1.0, depth / 4096))


def check(
    a: Tensor, b: Tensor, c: Tensor, *, bound: float, name: str, bias: Tensor | None = None,
    after: Callable[[Tensor], Tensor] | None = None, doubts: tuple[Tensor, Tensor] | None = None,
) -> Accuracy:  # fmt: skip
    """Whether ``c`` is the product of ``a`` and ``b``.

    Args:
        a: [m, k] or [batch, m, k].
        b: [k, n] or [batch, k, n].
        c: [m, n] or [batch, m, n], what the impl gave.
        bound: relative Frobenius error that may not be exceeded.
        name: of the result, for the message.
        bias: [n], added to the product.
        after: elementwise function of the epilogue, in float64.
        doubts: how far every element of ``a`` and ``b`` may lie from what is given.
    """
    if c.isnan().any():
        return Accuracy(rel_err=float("nan"), bound=bound, detail=f"NaN in {name}")
    shift, results = None if bias is None else exact(bias), []
    a, b, c, *unsure = (t.detach().reshape(-1, *t.shape[-2:]) for t in (a, b, c, *(doubts or ())))
    for x, y, z, *apart in zip(a, b, c, *unsure, strict=True):
        whole, by_row = _margins(x, y, apart[0], apart[1]) if apart else (0.0, None)
        limit = math.hypot(bound, whole)
        results.append(_sampled(x, y, z, limit, name, bias, after))
        if after is None:
            results.append(_freivalds(x, y, z, limit, name, shift, by_row))
    return Accuracy.worst(results)


def _margins(a: Tensor, b: Tensor, unsure_a: Tensor, unsure_b: Tensor) -> tuple[float, Tensor]:
    """Expected relative error of a product, and [m] of its rows, if all doubtful elements were the other ones."""
    lengths = exact(b).square().sum(dim=1, keepdim=True)
    size = _times(a, lengths, squared=True).clamp_min(1e-300)
    moved = _times(unsure_a, lengths, squared=True)
    moved += _times(a, exact(unsure_b).square().sum(dim=1, keepdim=True), squared=True)
    return float((moved.sum() / size.sum()).sqrt()), (moved / size).sqrt()[:, 0]


def exact(tensor: Tensor) -> Tensor:
    """The tensor in float64, on the host where its device has no float64."""
    tensor = tensor.detach()
    return tensor.double() if tensor.device.type in ("cpu", "cuda") else tensor.cpu().double()


def relative_error(actual: Tensor, reference: Tensor) -> float:
    """Frobenius norm of the difference over that of the float64 reference; 0 when both are empty or zero."""
    norm = float(torch.linalg.vector_norm(reference))
    error = float(torch.linalg.vector_norm(exact(actual) - reference))
    return error / norm if norm else error


def chosen(size: int, random: int = NARROW) -> Tensor:
    """Indices that every check of a dimension of ``size`` looks at: ends, tile edges, and a fixed random choice."""
    picks = torch.randperm(size, generator=torch.Generator().manual_seed(SEED))[:random]
    edges = torch.tensor([i for e in EDGES for i in (e, size - 1 - e) if 0 <= i < size])
    indices: Tensor = torch.cat([picks, edges]).unique()
    return indices


def _sampled(
    a: Tensor, b: Tensor, c: Tensor, bound: float, name: str, bias: Tensor | None,
    after: Callable[[Tensor], Tensor] | None,
) -> Accuracy:  # fmt: skip
    shift = exact(b[0]) * 0 if bias is None else exact(bias)
    finish = after or (lambda x: x)
    if a.shape[0] * a.shape[1] * b.shape[1] <= WHOLE:
        error = relative_error(c, finish(exact(a) @ exact(b) + shift))
    else:
        rows, columns = chosen(a.shape[0]).to(a.device), chosen(b.shape[1]).to(b.device)
        by_row = relative_error(c[rows], finish(exact(a[rows]) @ exact(b) + shift))
        by_column = relative_error(
            c[:, columns], finish(exact(a) @ exact(b[:, columns]) + shift[columns.to(shift.device)])
        )
        error = max(by_row, by_column)
    return Accuracy(rel_err=error, bound=bound, detail="" if error <= bound else f"{name} differs from float64")


def _freivalds(
    a: Tensor, b: Tensor, c: Tensor, bound: float, name: str, shift: Tensor | None, margins: Tensor | None
) -> Accuracy:
    vectors = torch.randint(0, 2, (c.shape[1], VECTORS), generator=torch.Generator().manual_seed(SEED)).double() * 2 - 1
    vectors = vectors.to(exact(c[:1]).device)
    right = _times(a, _times(b, vectors))
    if shift is not None:
        right = right + shift @ vectors
    # A row's error is taken relative to its size before sums cancel, which is what rounding errors grow with.
    scale = _times(a, exact(b).square().sum(dim=1, keepdim=True), squared=True).sqrt()[:, 0].clamp_min(1e-300)
    difference = _times(c, vectors) - right
    errors = difference.square().mean(dim=1).sqrt() / scale
    median = float(errors.median())
    sure = errors if margins is None else errors - SURE * margins
    row = int(sure.argmax())
    worst = float(errors[row])
    if c.shape[1] >= NARROW and float(sure[row]) > max(OUTLIER * median, EXACT):
        return Accuracy(
            rel_err=worst, bound=bound, detail=f"{name} row {row} errs {worst:.1e}, the median row {median:.1e}"
        )
    total = float(difference.norm() / right.norm().clamp_min(1e-300))
    return Accuracy(rel_err=total, bound=bound, detail="" if total <= bound else f"{name} fails Freivalds' check")


def _times(matrix: Tensor, vectors: Tensor, *, squared: bool = False, rows: int = 1024) -> Tensor:
    """``matrix @ vectors`` in float64, or that of its squared elements, without a float64 copy of the whole matrix."""
    blocks = (exact(block) for block in matrix.split(rows))
    return torch.cat([(block.square() if squared else block) @ vectors for block in blocks])
