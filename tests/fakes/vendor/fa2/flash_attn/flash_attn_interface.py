"""``flash_attn_func`` and ``flash_attn_varlen_func`` with the checks of ``mha_fwd`` and ``mha_varlen_fwd``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fakes.vendor import gpu
from fakes.vendor.attending import attend, packed

CALLS: list[dict[str, Any]] = []


def flash_attn_func(
    q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, softmax_scale: float | None = None, causal: bool = False,
    window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0, alibi_slopes: Any = None,
    deterministic: bool = False, return_attn_probs: bool = False,
) -> Tensor:  # fmt: skip
    _check(q, k, v, dropout_p)
    for name, t, heads, length in (("q", q, q.shape[2], q.shape[1]), ("k", k, k.shape[2], k.shape[1]),
                                   ("v", v, k.shape[2], k.shape[1])):  # fmt: skip
        gpu.check(t.shape == (q.shape[0], length, heads, q.shape[3]), f"{name} must have shape (batch_size, ...)")
    CALLS.append({"causal": causal, "window_size": window_size, "strides": q.stride(), "storage": q.data_ptr()})
    gpu.allocate()
    return attend(q, k, v, softmax_scale, causal, *window_size)[0]


def flash_attn_varlen_func(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, max_seqlen_q: int, max_seqlen_k: int,
    dropout_p: float = 0.0, softmax_scale: float | None = None, causal: bool = False,
    window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0, alibi_slopes: Any = None,
    deterministic: bool = False, return_attn_probs: bool = False, block_table: Any = None,
) -> Tensor:  # fmt: skip
    _check(q, k, v, dropout_p)
    for name, bounds in (("cu_seqlens_q", cu_seqlens_q), ("cu_seqlens_k", cu_seqlens_k)):
        gpu.check(bounds.dtype == torch.int32, f"{name} must have dtype int32")
        gpu.check(gpu.here(bounds) and bounds.is_contiguous(), f"{name} must be contiguous")
    gpu.check(q.dim() == k.dim() == v.dim() == 3, "q must have shape (total_q, num_heads, head_size)")
    gpu.check(isinstance(max_seqlen_q, int) and max_seqlen_q == int(cu_seqlens_q.diff().max()), "max_seqlen_q")
    CALLS.append({"causal": causal, "window_size": window_size, "storage": q.data_ptr(), "bounds": cu_seqlens_q})
    gpu.allocate()
    return packed(q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale, causal, *window_size)


def _check(q: Tensor, k: Tensor, v: Tensor, dropout_p: float) -> None:
    gpu.check(gpu.CAPABILITY >= (8, 0), "FlashAttention only supports Ampere GPUs or newer.")
    gpu.check(q.dtype in (torch.float16, torch.bfloat16), "FlashAttention only support fp16 and bf16 data type")
    gpu.check(k.dtype == q.dtype, "query and key must have the same dtype")
    gpu.check(v.dtype == q.dtype, "query and value must have the same dtype")
    for name, t in (("q", q), ("k", k), ("v", v)):
        gpu.check(gpu.here(t), f"{name} must be on CUDA")
        gpu.check(t.stride(-1) == 1, "Input tensor must have contiguous last dimension")
    gpu.check(q.shape[-1] <= 256, "FlashAttention forward only supports head dimension at most 256")
    gpu.check(q.shape[-2] % k.shape[-2] == 0, "Number of heads in key/value must divide number of heads in query")
    gpu.check(0 <= dropout_p < 1, "p_dropout < 1.f")
