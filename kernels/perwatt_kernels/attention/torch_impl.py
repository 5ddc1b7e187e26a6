"""Attention by torch: written out, compiled, and scaled_dot_product_attention by backend."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from perwatt_kernels.attention.mask import full
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor


def plain(request: Request) -> Callable[..., Tensor]:
    """Products and a softmax in float32, every step through memory: the framework's math path."""
    import torch
    from torch.nn import functional as F

    params = request.params

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        groups = q.shape[1] // k.shape[1]
        if groups > 1:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        scores = (q @ k.mT).float() * params["scale"]
        if params["causal"] or params["window"] or params["varlen"]:
            scores = scores.masked_fill(~full(q.shape[2], k.shape[2], params, q.device), float("-inf"))
        weights = torch.softmax(scores, dim=-1).to(v.dtype)
        if params["dropout"]:
            weights = F.dropout(weights, params["dropout"])
        return weights @ v

    return attention


def _compiled(request: Request) -> Callable[..., Tensor]:
    return request.compile(plain(request))


def _sdpa(backend: str | None, request: Request) -> Callable[..., Tensor]:
    """The framework's fused operation; documents of a packed sequence are attended to one after the other."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    params = request.params
    masks: dict[tuple[int, int], Tensor] = {}
    chosen = None if backend is None else getattr(SDPBackend, backend)

    def context() -> AbstractContextManager[None]:
        return nullcontext() if chosen is None else sdpa_kernel(chosen)

    def mask(q: Tensor, k: Tensor) -> Tensor | None:
        if not params["window"]:
            return None
        key = (q.shape[2], k.shape[2])
        if key not in masks:
            masks[key] = full(*key, {**params, "varlen": None}, q.device)
        return masks[key]

    def one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attended = mask(q, k)
        return scaled_dot_product_attention(
            q, k, v, attn_mask=attended, is_causal=params["causal"] and attended is None, scale=params["scale"],
            dropout_p=params["dropout"], enable_gqa=q.shape[1] != k.shape[1],
        )  # fmt: skip

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with context():
            if not params["varlen"]:
                return one(q, k, v)
            documents = zip(*(t.split(params["varlen"], dim=2) for t in (q, k, v)), strict=True)
            return torch.cat([one(*document) for document in documents], dim=2)

    return attention


CPU_BACKENDS = (None, "MATH", "FLASH_ATTENTION")


def _unsupported(backend: str | None, request: Request) -> str | None:
    if request.output != request.compute:
        return f"torch's attention gives its result in the format of its operands, {request.compute}"
    if request.device == "cpu" and backend not in CPU_BACKENDS:
        return f"scaled_dot_product_attention has no {backend} backend on cpu"
    if request.device == "cpu" and backend == "FLASH_ATTENTION" and request.params["dropout"]:
        return "the flash backend has no dropout on cpu"
    return None


def _sdpa_kernel(impl: str, backend: str | None, summary: str) -> Kernel:
    return Kernel(
        operation="attention", impl=impl, impl_class="eager", build=partial(_sdpa, backend),
        unsupported=partial(_unsupported, backend), summary=summary,
    )  # fmt: skip


KERNELS = (
    Kernel(operation="attention", impl="torch", impl_class="eager", build=plain,
           unsupported=partial(_unsupported, None), summary="written out: product, softmax, product"),
    Kernel(operation="attention", impl="torch.compile", impl_class="graph", build=_compiled,
           unsupported=partial(_unsupported, None), summary="the same through torch.compile"),
    _sdpa_kernel("sdpa", None, "scaled_dot_product_attention, its own choice of backend"),
    _sdpa_kernel("sdpa-math", "MATH", "its math backend"),
    _sdpa_kernel("sdpa-flash", "FLASH_ATTENTION", "its flash backend"),
    _sdpa_kernel("sdpa-efficient", "EFFICIENT_ATTENTION", "its memory-efficient backend"),
    _sdpa_kernel("sdpa-cudnn", "CUDNN_ATTENTION", "its cuDNN backend"),
)  # fmt: skip
