"""Attention of a decoder: projections, positions, softmax, all heads with their own or shared keys and values."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perwatt.models.kernels import FRAMEWORK, Kernels
from perwatt.models.norms import Norm
from perwatt.models.places import Places, rotate
from perwatt.models.weights import Make, Piece, rows
from perwatt.spec.model import ModelShape


class Attention(nn.Module):
    """Causal self-attention of one layer."""

    def __init__(self, shape: ModelShape, index: int, make: Make, kernels: Kernels = FRAMEWORK) -> None:
        super().__init__()
        self.shape, self.index, self.scale = shape, index, shape.attention_scale or None
        self.queries, self.keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        total = self.queries + 2 * self.keys
        self.qkv = make.sure(total, shape.hidden)
        self.qkv_bias = make(total, when=shape.attention_bias)
        self.q_norm = Norm(shape, shape.head_dim, make) if shape.qk_norm else None
        self.k_norm = Norm(shape, shape.head_dim, make) if shape.qk_norm else None
        self.o = make.sure(shape.hidden, self.queries)
        self.o_bias = make(shape.hidden, when=shape.output_bias)
        self._enter, self._leave = kernels.product(self.qkv, self.qkv_bias), kernels.product(self.o, self.o_bias)
        self._attend = None if kernels.attention is None else kernels.attention(shape.window_of(index))

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """``x`` [batch, seq, hidden] to the same."""
        shape = self.shape
        heads = self._enter(x, self.qkv, self.qkv_bias).unflatten(-1, (-1, shape.head_dim))
        turning, v = heads.split((shape.heads + shape.kv_heads, shape.kv_heads), dim=2)
        q, k = self._placed(turning, places)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        mixed = self._mixed(q, k, v, places)
        return self._leave(mixed.transpose(1, 2).flatten(2), self.o, self.o_bias)

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, places: Places) -> Tensor:
        """What each query takes of the values; all [batch, heads, seq, head_dim]."""
        if self._attend is not None:
            return self._attend(q, k, v)
        mask, cap = places.mask(self.index), self.shape.attention_softcap
        if cap and mask is not None:
            return attend_capped(q, k, v, mask, self.shape.scale, cap)
        return attend(q, k, v, mask, self.scale)

    def _placed(self, heads: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Queries and keys, normalized and rotated where the shape says so; rotated at once, in fewer operations."""
        sizes = (self.shape.heads, self.shape.kv_heads)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = heads.split(sizes, dim=2)
            q, k = self.q_norm(q), self.k_norm(k)
            if places.cos is None or places.sin is None:
                return q, k
            return rotate(q, places.cos, places.sin), rotate(k, places.cos, places.sin)
        if places.cos is not None and places.sin is not None:
            heads = rotate(heads, places.cos, places.sin)
        q, k = heads.split(sizes, dim=2)
        return q, k

    def pieces(self) -> Iterator[Piece]:
        """Weights by name."""
        yield from rows(self.qkv, q=self.queries, k=self.keys, v=self.keys)
        yield from rows(self.qkv_bias, q_bias=self.queries, k_bias=self.keys, v_bias=self.keys)
        if self.q_norm is not None and self.k_norm is not None:
            yield from self.q_norm.pieces("q_norm")
            yield from self.k_norm.pieces("k_norm")
        yield from rows(self.o, o=self.shape.hidden)
        yield from rows(self.o_bias, o_bias=self.shape.hidden)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """Attention of [batch, heads, seq, head_dim] with as many or fewer heads in ``k`` and ``v``.

    Fused kernels for 16-bit formats and those of the CPU take grouped heads as they are, which is faster than repeating
    them (CPU, 8 heads over 2: 1.2 to 1.5 times). Elsewhere, and with a mask, which only other fused kernels take,
    grouped heads would end in the unfused kernel.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: what is added to the scores; None for causal attention.
        scale: times the scores; None for ``head_dim ** -0.5``.
    """
    groups = q.shape[1] // k.shape[1]
    native = q.device.type == "cpu" or (q.dtype != torch.float32 and mask is None)
    if groups > 1 and not native:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=groups > 1 and native
    )


def attend_capped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, cap: float) -> Tensor:
    """As :func:`attend`, with scores s as ``cap * tanh(s / cap)``, which no fused kernel of the framework has.

    Scores are capped and their softmax is formed in float32; all heads that share keys are one product.
    """
    batch, heads, seq, width = q.shape
    scores = q.reshape(batch, k.shape[1], -1, width) @ k.transpose(-2, -1)
    capped = (scores.float() * (scale / cap)).tanh() * cap
    shares = (capped.view(batch, heads, seq, -1) + mask).softmax(dim=-1).to(q.dtype)
    return (shares.view(scores.shape) @ v).view(q.shape)
