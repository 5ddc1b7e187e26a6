"""FlashAttention 3 (Dao-AILab/flash-attention: hopper/flash_attn_interface.py, hopper/flash_api.cpp)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fakes.vendor import gpu
from fakes.vendor.attending import attend, packed

CALLS: list[dict[str, Any]] = []
WITHOUT_VARLEN = WITHOUT_BACKWARD = False  # builds that leave something out
WITH_LSE = False  # versions before August 2025 gave the log-sum-exp unasked


def flash_attn_func(
    q: Tensor, k: Tensor, v: Tensor, softmax_scale: float | None = None, causal: bool = False, qv: Any = None,
    q_descale: Any = None, k_descale: Any = None, v_descale: Any = None, window_size: tuple[int, int] = (-1, -1),
    attention_chunk: int = 0, softcap: float = 0.0, num_splits: int = 1, pack_gqa: bool | None = None,
    deterministic: bool = False, sm_margin: int = 0, return_attn_probs: bool = False,
) -> Any:  # fmt: skip
    _check(q, k, v)
    gpu.check(q.dim() == 4 and k.shape == v.shape and q.shape[0] == k.shape[0], "q must have shape (batch_size, ...)")
    CALLS.append({"causal": causal, "window_size": window_size, "storage": q.data_ptr()})
    gpu.allocate()
    result = attend(q, k, v, softmax_scale, causal, *window_size)
    if WITHOUT_BACKWARD and result[0].requires_grad:
        result[0].register_hook(_no_backward)
    return result if WITH_LSE or return_attn_probs else result[0]


def flash_attn_varlen_func(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, max_seqlen_q: int, max_seqlen_k: int,
    seqused_q: Any = None, seqused_k: Any = None, softmax_scale: float | None = None, causal: bool = False,
    qv: Any = None, q_descale: Any = None, k_descale: Any = None, v_descale: Any = None,
    window_size: tuple[int, int] = (-1, -1), attention_chunk: int = 0, softcap: float = 0.0, num_splits: int = 1,
    pack_gqa: bool | None = None, deterministic: bool = False, sm_margin: int = 0, return_attn_probs: bool = False,
) -> Any:  # fmt: skip
    _check(q, k, v)
    gpu.check(not WITHOUT_VARLEN, "This flash attention build does not support varlen.")
    gpu.check(cu_seqlens_q.dtype == torch.int32, "cu_seqlens_q must have dtype torch.int32")
    gpu.check(cu_seqlens_k.dtype == torch.int32, "cu_seqlens_k must have dtype torch.int32")
    gpu.check(gpu.here(cu_seqlens_q) and gpu.here(cu_seqlens_k), "cu_seqlens_q must be on CUDA")
    gpu.check(q.dim() == 3, "q must have shape (total_q, num_heads, head_size)")
    CALLS.append({"causal": causal, "window_size": window_size, "storage": q.data_ptr(), "bounds": cu_seqlens_q})
    gpu.allocate()
    return packed(q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale, causal, *window_size)


def _no_backward(incoming: Tensor) -> None:
    raise RuntimeError("This flash attention build does not support backward.")


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    gpu.check(gpu.CAPABILITY >= (8, 0), "FlashAttention only supports Ampere GPUs or newer.")
    gpu.check(
        q.dtype in (torch.float16, torch.bfloat16, torch.float8_e4m3fn),
        "FlashAttention only supports fp16, bf16, and fp8_e4m3 data type",
    )
    gpu.check(k.dtype == v.dtype == q.dtype, "query and key must have the same dtype")
    for name, t in (("q", q), ("k", k), ("v", v)):
        gpu.check(gpu.here(t), f"{name} must be on CUDA")
        gpu.check(t.stride(-1) == 1, "Input tensor must have contiguous last dimension")
    gpu.check(q.shape[-1] <= 256, "FlashAttention forward only supports head dimension at most 256")
    gpu.check(q.shape[-2] % k.shape[-2] == 0, "Number of heads in key/value must divide number of heads in query")
    gpu.check(q.shape[-1] % 8 == 0, "head_size should be a multiple of 8")
