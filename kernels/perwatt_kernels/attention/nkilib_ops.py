"""AWS's attention kernels as operations of torch, ``perwatt::nkilib_attention``.

Layouts and meaning of the statistics: NKI Library, ``attention_cte`` (documentation of SDK 2.32, nki/library/api) and
``attention_bwd`` (public source, core/attention). Statistics are [batch x heads, 128, q_len / 128], a query at row
``i % 128`` and column ``i // 128``: the negative maximum of the scaled scores, and 1 over the sum of exponentials.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from perwatt_kernels.nki_torch.ops import operation
from perwatt_kernels.nki_torch.site import Site

ROWS = 128
Forward = Callable[[Tensor, Tensor, Tensor, bool, float], Tensor]
Kept = Callable[[Tensor, Tensor, Tensor, bool, float], "tuple[Tensor, Tensor, Tensor]"]


@cache
def forward(site: Site) -> Forward:
    """``attention(q, k, v, causal, scale)`` of contiguous [batch, heads, length, width]; has no backward."""
    launched = _cte(site)

    def nkilib_attention_forward(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> Tensor:
        found: Tensor = launched(q, k, v, causal, scale, False)
        return found.view(q.shape)

    def shape(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> Tensor:
        return torch.empty_like(q)

    made: Forward = operation(site, "nkilib_attention_forward", nkilib_attention_forward, shape)
    return made


@cache
def attention(site: Site) -> Kept:
    """The same with statistics, and differentiable by its first result."""
    launched, backward = _cte(site), _backward(site)

    def nkilib_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        out, negative_max, reciprocal = launched(q, k, v, causal, scale, True)
        return out.view(q.shape), negative_max, reciprocal

    def shapes(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        batch, heads, length, _ = q.shape
        kept = torch.empty(batch * heads, ROWS, -(-length // ROWS), dtype=torch.float32, device=q.device)
        return torch.empty_like(q), kept, torch.empty_like(kept)

    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        q, k, v, ctx.causal, ctx.scale = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, k, v, *output)

    def gradients(ctx: Any, d_out: Tensor, *unused: None) -> tuple[Tensor | None, ...]:
        q, k, v, out, negative_max, reciprocal = ctx.saved_tensors
        lse = -(negative_max + reciprocal.log()).view(*q.shape[:2], ROWS, -1)
        turned = [t.mT.contiguous() for t in (q, k, v, out, d_out)]
        return *(t.mT for t in backward(*turned, lse, ctx.causal, ctx.scale)), None, None

    made: Kept = operation(site, "nkilib_attention", nkilib_attention, shapes, gradients, keep)
    return made


def _cte(site: Site) -> Callable[..., Any]:
    from nkilib.core.attention.attention_cte import attention_cte

    def launched(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float, keep: bool) -> Any:
        """All heads of all sequences are one batch; so many in a row share the keys."""
        return attention_cte[site.lnc](
            q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), scale=scale, causal_mask=causal, tp_q=True, tp_k=True,
            tp_out=False, cache_softmax=keep,
        )  # fmt: skip

    return launched


def _backward(site: Site) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    from nkilib.core.attention.attention_bwd import attention_bwd

    def nkilib_attention_backward(
        q: Tensor, k: Tensor, v: Tensor, out: Tensor, d_out: Tensor, lse: Tensor, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor] = attention_bwd[site.lnc](
            q, k, v, out, d_out, lse, use_causal_mask=causal, mixed_precision=True, softmax_scale=scale
        )
        return found

    def shapes(
        q: Tensor, k: Tensor, v: Tensor, out: Tensor, d_out: Tensor, lse: Tensor, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)

    return operation(site, "nkilib_attention_backward", nkilib_attention_backward, shapes)
