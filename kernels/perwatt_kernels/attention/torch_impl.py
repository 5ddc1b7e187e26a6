"""Attention by torch, written out, and the same compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perwatt_kernels.attention import mask
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
            scores = scores.masked_fill(~mask.full(q.shape[2], k.shape[2], params, q.device), float("-inf"))
        weights = torch.softmax(scores, dim=-1).to(v.dtype)
        if params["dropout"]:
            weights = F.dropout(weights, params["dropout"])
        return weights @ v

    return attention


def _compiled(request: Request) -> Callable[..., Tensor]:
    return request.compile(plain(request))


def _unsupported(request: Request) -> str | None:
    if request.output != request.compute:
        return f"torch's attention gives its result in the format of its operands, {request.compute}"
    return None


KERNELS = (
    Kernel(operation="attention", impl="torch", impl_class="eager", build=plain, unsupported=_unsupported,
           extra_bytes=mask.scores_bytes, summary="written out: product, softmax, product"),
    Kernel(operation="attention", impl="torch.compile", impl_class="graph", build=_compiled, unsupported=_unsupported,
           extra_bytes=mask.scores_bytes, summary="the same through torch.compile"),
)  # fmt: skip
