"""A Llama-style decoder in plain torch: RMSNorm, rotary positions, grouped queries, SwiGLU, tied or untied head.

Weights that multiply the same input are kept as one matrix (queries, keys and values; gate and up), because one large
product is faster than several small ones and the mathematics is the same. :meth:`Llama.tensors` cuts them apart again.
Casts are explicit: a weight is cast to the compute format where it is used, so its gradient arrives in the format it
is stored in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perwatt.spec.model import ModelShape, Rope
from perwatt.spec.precision import Precision
from perwatt_kernels.dtypes import dtype


@dataclass(frozen=True, kw_only=True, slots=True)
class Formats:
    """What a precision policy means for the model.

    Attributes:
        storage: of the parameters that the optimizer updates, and of their gradients.
        products: of the operands of products.
        compute: that the model casts to: that of products, or that of the weights where autocast does the casting.
        logits: of the result; not wider than ``compute``.
    """

    storage: torch.dtype
    products: torch.dtype
    compute: torch.dtype
    logits: torch.dtype

    @classmethod
    def of(cls, precision: Precision, logits: str = "policy") -> Formats:
        """The formats of a policy; ``logits`` other than ``policy`` replaces the policy's own."""
        storage = precision.weights if precision.master_weights == "none" else precision.master_weights
        final = precision.logits if logits == "policy" else logits
        compute = precision.weights if precision.casts == "autocast" else precision.activations
        return cls(
            storage=dtype(storage), products=dtype(precision.activations), compute=dtype(compute), logits=dtype(final)
        )


def frequencies(rope: Rope, head_dim: int) -> Tensor:
    """Radians per position of every pair of a head, float64 [head_dim / 2].

    ``llama3`` divides frequencies below ``low_freq_factor`` turns in ``original_positions`` by ``factor``, keeps those
    above ``high_freq_factor``, and goes linearly from one to the other between.
    """
    plain = rope.theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    if rope.kind == "default":
        return plain
    turns = rope.original_positions * plain / (2 * torch.pi)
    kept = ((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)).clamp(0, 1)
    return plain * (kept + (1 - kept) / rope.factor)


def rotation(rope: Rope, head_dim: int, positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each float32 [positions, 1, head_dim / 2]; angles are formed in float64."""
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), frequencies(rope, head_dim))
    return angles.cos().float().unsqueeze(1), angles.sin().float().unsqueeze(1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + head_dim / 2) of ``x`` [batch, seq, heads, head_dim] in float32."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of [batch, heads, seq, head_dim] with as many or fewer heads in ``k`` and ``v``.

    Fused kernels for 16-bit formats and those of the CPU take grouped heads as they are, which is faster than repeating
    them (CPU, 8 heads over 2: 1.2 to 1.5 times). Elsewhere grouped heads would end in the unfused kernel.
    """
    groups = q.shape[1] // k.shape[1]
    native = q.device.type == "cpu" or q.dtype != torch.float32
    if groups > 1 and not native:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=groups > 1 and native)


class Block(nn.Module):
    """One layer: attention and feed-forward, each after a norm and added to the residual stream."""

    def __init__(self, shape: ModelShape, device: torch.device, storage: torch.dtype) -> None:
        super().__init__()
        self.shape = shape
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim

        def parameter(*extents: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*extents, device=device, dtype=storage))

        self.attention_norm = parameter(shape.hidden)
        self.qkv = parameter(queries + 2 * keys, shape.hidden)
        self.o = parameter(shape.hidden, queries)
        self.mlp_norm = parameter(shape.hidden)
        self.gate_up = parameter(2 * shape.intermediate, shape.hidden)
        self.down = parameter(shape.hidden, shape.intermediate)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """``x`` [batch, seq, hidden] to the same."""
        x = x + self._attention(normed(x, self.attention_norm, self.shape.norm_eps), cos, sin)
        return x + self._feed_forward(normed(x, self.mlp_norm, self.shape.norm_eps))

    def _attention(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shape = self.shape
        heads = linear(x, self.qkv).unflatten(-1, (-1, shape.head_dim))
        turning, v = heads.split((shape.heads + shape.kv_heads, shape.kv_heads), dim=2)
        q, k = rotate(turning, cos, sin).split((shape.heads, shape.kv_heads), dim=2)
        mixed = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return linear(mixed.transpose(1, 2).flatten(2), self.o)

    def _feed_forward(self, x: Tensor) -> Tensor:
        gate, up = linear(x, self.gate_up).chunk(2, dim=-1)
        return linear(F.silu(gate) * up, self.down)


class Llama(nn.Module):
    """The whole decoder; parameters are left uninitialized.

    Args:
        shape: a Llama-style shape.
        formats: storage, compute and logits formats.
        positions: longest sequence.
        device: where parameters and rotation tables live.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: ModelShape, formats: Formats, positions: int, device: torch.device) -> None:
        super().__init__()
        self.shape, self.formats = shape, formats
        table = torch.empty(shape.vocab, shape.hidden, device=device, dtype=formats.storage)
        self.embedding = nn.Parameter(table)
        self.blocks = nn.ModuleList(Block(shape, device, formats.storage) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.empty(shape.hidden, device=device, dtype=formats.storage))
        self.head = self.embedding if shape.tied else nn.Parameter(torch.empty_like(table))
        cos, sin = rotation(shape.rope, shape.head_dim, positions)
        self.register_buffer("cos", cos.to(device), persistent=False)
        self.register_buffer("sin", sin.to(device), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, seq, vocab] of token ids [batch, seq]."""
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        x = F.embedding(tokens, self.embedding).to(self.formats.compute)
        for block in self.blocks:
            x = block(x, cos, sin)
        logits = linear(normed(x, self.norm, self.shape.norm_eps), self.head)
        return logits.to(self.formats.logits)

    def tensors(self, of: Callable[[Tensor], Tensor | None]) -> dict[str, Tensor | None]:
        """One tensor for each weight as a paper would list them (``layers.0.q``), cut from the stored ones.

        Args:
            of: what to take of a stored parameter: itself, its gradient, a moment. None stays None.
        """
        found: dict[str, Tensor | None] = {}
        for parameter, names in self._layout():
            whole = of(parameter)
            rows = [size for _, size in names]
            parts = [None] * len(names) if whole is None else whole.split(rows)
            found.update(zip((name for name, _ in names), parts, strict=True))
        return found

    def _layout(self) -> Iterator[tuple[Tensor, list[tuple[str, int]]]]:
        """Every stored parameter with the names and row counts of the weights in it."""
        shape = self.shape
        q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        yield self.embedding, [("embedding", shape.vocab)]
        for index, block in enumerate(self.blocks):
            names = {
                "attention_norm": [("attention_norm", shape.hidden)],
                "qkv": [("q", q), ("k", kv), ("v", kv)],
                "o": [("o", shape.hidden)],
                "mlp_norm": [("mlp_norm", shape.hidden)],
                "gate_up": [("gate", shape.intermediate), ("up", shape.intermediate)],
                "down": [("down", shape.hidden)],
            }
            for stored, parts in names.items():
                yield getattr(block, stored), [(f"layers.{index}.{name}", rows) for name, rows in parts]
        yield self.norm, [("norm", shape.hidden)]
        if not shape.tied:
            yield self.head, [("head", shape.vocab)]


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Product with a weight [out, in] cast to the format of ``x``."""
    return F.linear(x, weight.to(x.dtype))


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last dimension, in float32 inside whatever the format of ``x``."""
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)
