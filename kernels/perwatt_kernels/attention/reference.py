"""Attention in float64, written out: what every other kernel is judged against."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perwatt_kernels.attention.mask import full
from perwatt_kernels.dtypes import dtype
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor


def _build(request: Request) -> Callable[..., Tensor]:
    import torch

    params, output, seen = request.params, dtype(request.output), dtype(request.compute)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        groups = q.shape[1] // k.shape[1]
        q, k, v = (t.to(seen) for t in (q, k, v))  # under autocast they arrive in float32
        keys, values = (t.double().repeat_interleave(groups, dim=1) for t in (k, v))
        scores = q.double() @ keys.mT * params["scale"]
        scores = scores.masked_fill(~full(q.shape[2], k.shape[2], params, q.device), float("-inf"))
        return (torch.softmax(scores, dim=-1) @ values).to(output)

    return attention


def _unsupported(request: Request) -> str | None:
    return "the reference has no dropout" if request.params["dropout"] else None


KERNELS = (
    Kernel(operation="attention", impl="reference", impl_class="eager", build=_build, unsupported=_unsupported,
           summary="float64, rounded once"),
)  # fmt: skip
