"""Flash attention in NKI as operations of torch, ``perwatt::nki_attention`` and ``perwatt::nki_attention_backward``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from perwatt_kernels.attention.nki_backward import attention_backward as backward_kernel
from perwatt_kernels.attention.nki_forward import attention_forward as forward_kernel
from perwatt_kernels.nki_torch.ops import launcher, operation
from perwatt_kernels.nki_torch.site import Site

Forward = Callable[[Tensor, Tensor, Tensor, bool, float], "tuple[Tensor, Tensor]"]


@cache
def attention(site: Site) -> Forward:
    """``attention(q, k, v, causal, scale)``, all contiguous; gives the result and the log-sum-exp of each query.

    Differentiable by the result; the log-sum-exp has no gradient.
    """
    forward, backward = launcher(forward_kernel, site), _backward(site)

    def nki_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = forward(q, k, v, causal, scale)
        return found

    def shapes(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
        return torch.empty_like(q), torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)

    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        q, k, v, ctx.causal, ctx.scale = inputs
        out, lse = output
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx._saved_logsumexp = lse.detach()  # where torch's own have it, so that it can be looked at

    def gradients(ctx: Any, d_out: Tensor, d_lse: None) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        return *backward(q, k, v, out, lse, d_out.contiguous(), ctx.causal, ctx.scale), None, None

    made: Forward = operation(site, "nki_attention", nki_attention, shapes, gradients, keep)
    return made


def _backward(site: Site) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    launched = launcher(backward_kernel, site)

    def nki_attention_backward(
        q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, d_out: Tensor, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor] = launched(q, k, v, out, lse, d_out, causal, scale)
        return found

    def shapes(
        q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, d_out: Tensor, causal: bool, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)

    return operation(site, "nki_attention_backward", nki_attention_backward, shapes)
