"""Attention in Gluon as operations of torch, whole in eager mode, autograd and ``torch.compile``.

``perwatt::gluon_attention_forward`` gives the result and the log-sum-exp of each query,
``perwatt::gluon_attention_backward`` the gradients of queries, keys and values.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.library import custom_op

from perwatt_kernels import arguments
from perwatt_kernels.attention import gluon_backward_launch, gluon_launch, triton_ops
from perwatt_kernels.attention.triton_launch import Work

FORMATS = (torch.bfloat16, torch.float16)


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """The result and its log-sum-exp; differentiable by the result.

    Args:
        q: [batch, heads, q_len, head_dim]; heads contiguous, other strides multiples of 16 bytes.
        k: [batch, kv_heads, kv_len, head_dim], likewise.
        v: the same.
        causal: whether query i sees keys 0 to i only.
        scale: of the scores.

    Raises:
        ValueError: an argument does not fit; it says which, what was found and what was expected.
        Refusal: an operand lies otherwise.
    """
    triton_ops.check(q, k, v, 0, (), scale)
    arguments.of_dtype("q", q, *FORMATS)
    found: tuple[Tensor, Tensor] = gluon_attention_forward(q, k, v, causal, scale)
    return found


@custom_op("perwatt::gluon_attention_forward", mutates_args=())
def gluon_attention_forward(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """Launch the forward."""
    work = _work(q, k, v, causal, scale)
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)
    if work.empty:  # of no keys, the sum of exponentials is zero
        return out.zero_(), lse.fill_(float("-inf"))
    gluon_launch.forward(work, out, lse)
    return out, lse


@gluon_attention_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@custom_op("perwatt::gluon_attention_backward", mutates_args=())
def gluon_attention_backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, d_out: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch the backward; gradients of queries are summed in no order."""
    work = _work(q, k, v, causal, scale)
    gradients = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    if work.empty:
        return gradients[0].zero_(), gradients[1].zero_(), gradients[2].zero_()
    gluon_backward_launch.backward(work, out, lse.contiguous(), d_out, *gradients)
    return gradients


@gluon_attention_backward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, d_out: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _work(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> Work:
    return Work(q=q, k=k, v=v, causal=causal, window=0, lengths=(), scale=scale)


triton_ops.differentiable(gluon_attention_forward, gluon_attention_backward)
