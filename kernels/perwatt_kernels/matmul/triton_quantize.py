"""Quantization to 8 bits in Triton, by the rule of :mod:`perwatt_kernels.matmul.quantize`, for products to read.

A matrix in any strides is read once or twice and written once, along the depth, whatever way it lay: 8-bit units read
no other order. With scales by row the second reading finds a program's rows in the cache.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import custom_op

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.matmul import scaled_impl
from perwatt_kernels.matmul.product_ops import plain
from perwatt_kernels.matmul.quantize import FORMATS, SMALLEST_SCALE
from perwatt_kernels.triton_site import interpreted

ALONG, ACROSS = (4, 1024), (32, 128)  # rows and depth of a block, where the depth or the rows lie together


@triton.jit
def _largest(at, x_depth, depth, row_in, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr):
    """Largest magnitude of each row, or what is not a number where there is such."""
    top = tl.full((BLOCK_R, BLOCK_D), 0.0, tl.float32)
    for start in range(0, depth, BLOCK_D):
        inside = row_in[:, None] & (start + tl.arange(0, BLOCK_D) < depth)[None, :]
        values = tl.load(at + tl.cast(start, tl.int64) * x_depth, mask=inside, other=0.0).to(tl.float32)
        top = tl.maximum(top, tl.abs(values), propagate_nan=tl.PropagateNan.ALL)
    number = top == top
    strange = tl.max(tl.where(number, 0, 1), 1)
    return tl.where(strange == 1, float("nan"), tl.max(tl.where(number, top, 0.0), 1))


@triton.jit
def _rounded(y, EXPONENT: tl.constexpr, MANTISSA: tl.constexpr, INTERPRETED: tl.constexpr):
    """Float32 that 8 bits hold exactly; hardware rounds in the cast, Triton 3.9's interpreter cuts off."""
    if INTERPRETED:
        leading = (y.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
        step = tl.maximum(leading, EXPONENT) * MANTISSA
        whole = y / step + 12582912.0 - 12582912.0  # 1.5 x 2^23: only whole numbers lie beside it
        y = tl.where(y == y, whole * step, y)
    return y


@triton.jit
def perwatt_largest(
    x, tops, rows, depth, x_row, x_depth, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """Largest magnitudes of rows, one block of them a program."""
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    wide = tl.cast(row, tl.int64)[:, None] * x_row + tl.cast(tl.arange(0, BLOCK_D), tl.int64)[None, :] * x_depth
    tl.store(tops + row, _largest(x + wide, x_depth, depth, row < rows, BLOCK_R, BLOCK_D), mask=row < rows)


@triton.jit
def perwatt_quantize(
    x, scales, elements, rows, depth, x_row, x_depth, LARGEST: tl.constexpr, SMALLEST: tl.constexpr,
    BY_ROW: tl.constexpr, EXPONENT: tl.constexpr, MANTISSA: tl.constexpr, INTERPRETED: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Rows in 8 bits: by scales of their own, which it finds and writes, or by the one that is given."""
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    row_in, across = row < rows, tl.arange(0, BLOCK_D)
    wide = tl.cast(row, tl.int64)[:, None]
    at = x + wide * x_row + tl.cast(across, tl.int64)[None, :] * x_depth
    if BY_ROW:
        top = _largest(at, x_depth, depth, row_in, BLOCK_R, BLOCK_D)
        scale = tl.maximum(tl.div_rn(top, LARGEST), SMALLEST, propagate_nan=tl.PropagateNan.ALL)
        tl.store(scales + row, scale, mask=row_in)
    else:
        scale = tl.load(scales + row * 0)
    for start in range(0, depth, BLOCK_D):
        inside = row_in[:, None] & (start + across < depth)[None, :]
        values = tl.load(at + tl.cast(start, tl.int64) * x_depth, mask=inside, other=0.0).to(tl.float32)
        y = tl.div_rn(values, tl.broadcast_to(scale[:, None], (BLOCK_R, BLOCK_D)))
        y = tl.maximum(y, -LARGEST, propagate_nan=tl.PropagateNan.ALL)
        y = _rounded(tl.minimum(y, LARGEST, propagate_nan=tl.PropagateNan.ALL), EXPONENT, MANTISSA, INTERPRETED)
        to = elements + wide * depth + (start + across)[None, :]
        tl.store(to, y.to(elements.dtype.element_ty), mask=inside)


@custom_op("perwatt::triton_quantize", mutates_args=())
def quantize(x: Tensor, name: str, by_row: bool) -> tuple[Tensor, Tensor]:
    """The operation that :func:`cast` is to a compiler."""
    return _quantize(x, name, by_row)


def _quantize(x: Tensor, name: str, by_row: bool) -> tuple[Tensor, Tensor]:
    """Elements of ``x`` [rows, depth] in format ``name``, contiguous, and scales [rows, 1] or [1, 1] in float32."""
    rows, depth = x.shape
    elements = torch.empty(rows, depth, dtype=dtype(name), device=x.device)
    scales = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    form, (block_r, block_d) = FORMATS[name], ALONG if x.stride(-1) == 1 else ACROSS
    grid, shape = (-(-rows // block_r),), (rows, depth, *x.stride())
    with torch.cuda.device(x.device if x.is_cuda else -1):  # -1 is none
        if rows and not by_row:
            perwatt_largest[grid](x, scales, *shape, BLOCK_R=block_r, BLOCK_D=block_d)
        if not by_row:
            top = scales.amax().view(1, 1) if rows and depth else scales.new_zeros(1, 1)
            scales = (top / form.largest).clamp_min(SMALLEST_SCALE)
        if rows:
            perwatt_quantize[grid](
                x, scales, elements, *shape, LARGEST=form.largest, SMALLEST=SMALLEST_SCALE, BY_ROW=by_row,
                EXPONENT=2.0**form.least, MANTISSA=2.0**-form.mantissa, INTERPRETED=interpreted(), BLOCK_R=block_r,
                BLOCK_D=block_d,
            )  # fmt: skip
    return elements, scales


@quantize.register_fake
def _(x: Tensor, name: str, by_row: bool) -> tuple[Tensor, Tensor]:
    rows = x.shape[0] if by_row else 1
    return x.new_empty(x.shape, dtype=dtype(name)), x.new_empty((rows, 1), dtype=torch.float32)


def cast(x: Tensor, name: str, scaling: str, depth: int) -> tuple[Tensor, Tensor]:
    """A tensor in 8 bits and its scales, as :func:`perwatt_kernels.matmul.scaled_impl.cast` gives them."""
    if x.dim() != 2:
        return scaled_impl.cast(x, name, scaling, depth)
    how = _quantize if plain(x) else quantize
    elements, scales = how(x if depth == -1 else x.mT, name, scaling == "row")
    return (elements, scales) if depth == -1 else (elements.mT, scales.mT)
