"""Attention as FlashAttention's documentation defines it: masks aligned at the bottom right, windows inclusive."""

from __future__ import annotations

import torch
from torch import Tensor


def attend(
    q: Tensor, k: Tensor, v: Tensor, scale: float | None, causal: bool, left: int, right: int
) -> tuple[Tensor, Tensor]:
    """Result [batch, length, heads, head_dim] in the format of ``q``, and the log-sum-exp [batch, heads, length].

    Args:
        q: [batch, length, heads, head_dim].
        k: [batch, keys, kv_heads, head_dim].
        v: as ``k``.
        scale: of the scores; 1 / sqrt(head_dim) where None.
        causal: whether a query sees no later key, counted from the end.
        left: keys before a query's own that it sees; below zero for all.
        right: keys behind it.
    """
    groups = q.shape[2] // k.shape[2]
    queries, keys, values = (t.transpose(1, 2).float() for t in (q, k, v))
    keys, values = (t.repeat_interleave(groups, dim=1) for t in (keys, values))
    scores = queries @ keys.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    shift = k.shape[1] - q.shape[1]
    ahead = torch.arange(k.shape[1])[None, :] - torch.arange(q.shape[1])[:, None] - shift
    right = 0 if causal else right
    hidden = (ahead > right if right >= 0 else ahead != ahead) | (ahead < -left if left >= 0 else ahead != ahead)
    scores = scores.masked_fill(hidden, float("-inf"))
    weights = torch.softmax(scores, dim=-1).nan_to_num(0.0)  # a row that sees nothing is zero
    result = (weights.to(v.dtype).float() @ values).to(q.dtype)
    return result.transpose(1, 2), scores.logsumexp(dim=-1)


def packed(
    q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, bounds_k: Tensor, scale: float | None, causal: bool, left: int,
    right: int,
) -> Tensor:  # fmt: skip
    """The same for documents [tokens, heads, head_dim] behind each other, between bounds."""
    pairs = zip(bounds.tolist(), bounds.tolist()[1:], bounds_k.tolist(), bounds_k.tolist()[1:], strict=False)
    documents = [
        attend(q[None, a:b], k[None, c:d], v[None, c:d], scale, causal, left, right)[0][0] for a, b, c, d in pairs
    ]
    return torch.cat(documents)
