"""Flash attention in Triton as operations of torch, whole in eager mode, autograd and ``torch.compile``.

``perwatt::triton_attention_forward`` gives the result and the log-sum-exp of each query,
``perwatt::triton_attention_backward`` the gradients of queries, keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from perwatt_kernels import arguments
from perwatt_kernels.attention import triton_launch
from perwatt_kernels.attention.triton_launch import Work

FORMATS = (torch.bfloat16, torch.float16, torch.float32)
WIDEST = 256


def attention(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, window: int, lengths: Sequence[int], scale: float,
    ordered: bool = True,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The result and its log-sum-exp; differentiable by the result.

    Args:
        q: [batch, heads, q_len, head_dim], any strides.
        k: [batch, kv_heads, kv_len, head_dim], any strides.
        v: the same.
        causal: whether query i sees keys 0 to i only.
        window: how many of the nearest keys are seen; 0 for all.
        lengths: of documents packed into each sequence; empty for one.
        scale: of the scores.
        ordered: whether gradients are to be the same, bit by bit, every time.

    Raises:
        ValueError: an argument does not fit; it says which, what was found and what was expected.
    """
    check(q, k, v, window, lengths, scale)
    found: tuple[Tensor, Tensor] = triton_attention_forward(q, k, v, causal, window, list(lengths), scale, ordered)
    return found


def check(q: Tensor, k: Tensor, v: Tensor, window: int, lengths: Sequence[int], scale: float) -> None:
    """Refuse arguments of :func:`attention` that do not fit.

    Raises:
        ValueError: one does not; it says which, what was found and what was expected.
    """
    arguments.of_shape("q", q, (None,) * 4)
    batch, heads, q_len, width = q.shape
    arguments.of_shape("k", k, (batch, None, None, width))
    arguments.of_shape("v", v, k.shape)
    arguments.of_dtype("q", q, *FORMATS)
    for name, tensor in (("k", k), ("v", v)):
        arguments.of_dtype(name, tensor, q.dtype)
        arguments.on(name, tensor, q.device)
    if not 1 <= width <= WIDEST:
        raise arguments.refuse("q", f"head_dim {width}", f"1 to {WIDEST}")
    if not k.shape[1] or heads % k.shape[1]:
        raise arguments.refuse("k", f"{k.shape[1]} heads", f"a divisor of the {heads} of q")
    if lengths and not (min(lengths) > 0 and sum(lengths) == q_len == k.shape[2]):
        raise arguments.refuse(
            "lengths", f"{list(lengths)} of {q_len} queries and {k.shape[2]} keys", "positive, with both as their sum"
        )
    if window < 0:
        raise arguments.refuse("window", window, "0 or more")
    if not scale > 0:
        raise arguments.refuse("scale", scale, "a positive number")


def differentiable(forward: Any, backward: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    """Have autograd give gradients of an operation such as :func:`triton_attention_forward` by another."""

    def gradients(ctx: Any, d_out: Tensor | None, d_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        none = (None,) * len(ctx.how)
        return (None, None, None, *none) if d_out is None else (*backward(q, k, v, out, lse, d_out, *ctx.how), *none)

    forward.register_autograd(gradients, setup_context=_keep)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, *ctx.how = inputs
    out, lse = output
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(q, k, v, out, lse)
    ctx._saved_logsumexp = lse.detach()  # where torch's own have it, so that it can be looked at


@custom_op("perwatt::triton_attention_forward", mutates_args=())
def triton_attention_forward(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, window: int, lengths: Sequence[int], scale: float, ordered: bool
) -> tuple[Tensor, Tensor]:
    """Launch the forward; ``ordered`` is the backward's."""
    work = Work(q=q, k=k, v=v, causal=causal, window=window, lengths=tuple(lengths), scale=scale)
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)
    if work.empty:  # of no keys, the sum of exponentials is zero
        return out.zero_(), lse.fill_(float("-inf"))
    triton_launch.forward(work, out, lse)
    return out, lse


@triton_attention_forward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, window: int, lengths: Sequence[int], scale: float, ordered: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@custom_op("perwatt::triton_attention_backward", mutates_args=())
def triton_attention_backward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, d_out: Tensor, causal: bool, window: int,
    lengths: Sequence[int], scale: float, ordered: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Launch the backward."""
    work = Work(q=q, k=k, v=v, causal=causal, window=window, lengths=tuple(lengths), scale=scale, ordered=ordered)
    gradients = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    if work.empty:
        return gradients[0].zero_(), gradients[1].zero_(), gradients[2].zero_()
    triton_launch.backward(work, out, lse.contiguous(), d_out, *gradients)
    return gradients


@triton_attention_backward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, d_out: Tensor, causal: bool, window: int,
    lengths: Sequence[int], scale: float, ordered: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


differentiable(triton_attention_forward, triton_attention_backward)
