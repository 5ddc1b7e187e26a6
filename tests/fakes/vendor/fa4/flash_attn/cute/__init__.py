"""FlashAttention 4 (Dao-AILab/flash-attention: flash_attn/cute/interface.py); the folder above has no ``__init__``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fakes.vendor import gpu
from fakes.vendor.attending import attend, packed

__all__ = ["flash_attn_func", "flash_attn_varlen_func"]
CALLS: list[dict[str, Any]] = []
Window = tuple[int | None, int | None]


def flash_attn_func(
    q: Tensor, k: Tensor, v: Tensor, qv: Any = None, gather_kv_indices: Any = None,
    softmax_scale: float | None = None, causal: bool = False, window_size: Window = (None, None),
    learnable_sink: Any = None, softcap: float = 0.0, num_splits: int = 1, pack_gqa: bool | None = None,
    deterministic: bool = False, score_mod: Any = None, score_mod_bwd: Any = None, mask_mod: Any = None,
    aux_tensors: Any = None, aux_scalars: Any = None, block_sparse_tensors: Any = None,
    block_sparse_tensors_bwd: Any = None, return_lse: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    _check(q, k, v)
    assert k.shape == (q.shape[0], k.shape[1], k.shape[2], q.shape[3])
    assert v.shape == k.shape
    CALLS.append({"causal": causal, "window_size": window_size, "storage": q.data_ptr()})
    gpu.allocate()
    result, lse = attend(q, k, v, softmax_scale, causal, *_sides(window_size))
    return result, lse if return_lse or q.requires_grad else None


def flash_attn_varlen_func(
    q: Tensor, k: Tensor, v: Tensor, qv: Any = None, cu_seqlens_q: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None, max_seqlen_q: int | None = None, max_seqlen_k: int | None = None,
    min_seqlen_k: int | None = None, seqused_q: Any = None, seqused_k: Any = None, gather_kv_indices: Any = None,
    page_table: Any = None, softmax_scale: float | None = None, causal: bool = False,
    window_size: Window = (None, None), learnable_sink: Any = None, softcap: float = 0.0, num_splits: int = 1,
    pack_gqa: bool | None = None, deterministic: bool = False, score_mod: Any = None, score_mod_bwd: Any = None,
    mask_mod: Any = None, block_sparse_tensors: Any = None, aux_tensors: Any = None, aux_scalars: Any = None,
    return_lse: bool = False, scheduler_metadata: Any = None, seqlen_k_per_split: int | None = None,
    disable_scheduler_metadata: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    _check(q, k, v)
    assert cu_seqlens_q is not None
    assert cu_seqlens_k is not None
    for bounds in (cu_seqlens_q, cu_seqlens_k):
        assert bounds.dtype == torch.int32, "cu_seqlens_q, cu_seqlens_k, seqused_q, seqused_k must be int32"
        assert bounds.stride(0) == 1, "cu_seqlens_q, cu_seqlens_k, seqused_q, seqused_k must be contiguous"
        assert gpu.here(bounds), "inputs must be on CUDA device"
    assert k.shape[1:] == v.shape[1:]
    assert q.dim() == 3
    CALLS.append({"causal": causal, "window_size": window_size, "storage": q.data_ptr(), "bounds": cu_seqlens_q})
    gpu.allocate()
    return packed(q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale, causal, *_sides(window_size)), None


def _sides(window: Window) -> tuple[int, int]:
    """None is no limit; negative numbers would be sides that lie beyond the query."""
    assert all(side is None or side >= 0 for side in window)
    left, right = (-1 if side is None else side for side in window)
    return left, right


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    assert q.dtype in (torch.float16, torch.bfloat16), "inputs must be float16, bfloat16, fp8 e4m3fn, or fp8 e5m2"
    assert q.dtype == k.dtype == v.dtype, "q, k, v, and qv must have the same dtype"
    assert all(map(gpu.here, (q, k, v))), "inputs must be on CUDA device"
    major, width = gpu.CAPABILITY[0], q.shape[-1]
    assert major in (8, 9, 10, 11, 12), "Unsupported compute capability. Supported: 8.x, 9.x, 10.x, 11.x, 12.x"
    assert q.shape[-2] % k.shape[-2] == 0, "num_head must be divisible by num_head_kv"
    if major == 9:
        assert width in range(8, 257, 8), f"(head_dim, head_dim_v)=({width}, {width}) is not supported"
    if major in (10, 11):
        assert width in (*range(8, 129, 8), 256), f"(head_dim, head_dim_v)=({width}, {width}) is not supported on SM100"
