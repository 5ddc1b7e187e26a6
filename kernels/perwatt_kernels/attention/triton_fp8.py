"""Flash attention in Triton with operands in 8 bits (e4m3), forward.

Queries, keys and values are quantized with a scale for each head of each sequence, and so are the weights of the
softmax, by a fixed power of two; statistics and sums are in float32. No precision policy quantizes attention, and the
gate of attention allows twice the error of bf16, so this is a function and no implementation that suites can name.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perwatt_kernels.attention import triton_launch, triton_ops
from perwatt_kernels.attention.triton_launch import Work
from perwatt_kernels.matmul import quantize

LARGEST = quantize.FORMATS["e4m3fn"].largest
SINCE = (8, 9)
ALIGNED = 16  # keys, so that loads of values are whole


def attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, window: int, lengths: Sequence[int], scale: float
) -> tuple[Tensor, Tensor]:
    """The result in the format of the operands, and its log-sum-exp; arguments are those of ``triton_ops.attention``.

    Raises:
        ValueError: an argument does not fit.
        NotImplementedError: the GPU has no products of 8-bit floats.
    """
    triton_ops.check(q, k, v, window, lengths, scale)
    if q.device.type == "cuda" and torch.cuda.get_device_capability(q.device) < SINCE:
        raise NotImplementedError(f"products of 8-bit floats need compute capability {SINCE[0]}.{SINCE[1]}")
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)
    if 0 in q.shape or 0 in k.shape:
        return out.zero_(), lse.fill_(float("-inf"))
    (q, q_scales), (k, k_scales), (v, v_scales) = map(_quantized, (q, k, v))
    work = Work(
        q=q, k=k, v=_along_keys(v), causal=causal, window=window, lengths=tuple(lengths), scale=scale,
        scales=(q_scales, k_scales, v_scales),
    )  # fmt: skip
    triton_launch.forward(work, out, lse)
    return out, lse


def _quantized(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor over the scales of its heads in e4m3, and these scales, float32 [batch, heads]."""
    scales = quantize.scales(tensor, "e4m3fn", "tensor", -1)
    narrow = (tensor / scales).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    return narrow, scales.flatten(1).contiguous()


def _along_keys(v: Tensor) -> Tensor:
    """Values with the elements of a column side by side: 8-bit products in hardware sum along these."""
    batch, heads, length, dim = v.shape
    room = -(-length // ALIGNED) * ALIGNED
    stored = torch.empty(batch, heads, dim, room, dtype=v.dtype, device=v.device)
    turned = stored[..., :length].mT
    turned.copy_(v)
    return turned
