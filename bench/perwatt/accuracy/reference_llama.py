"""The reference of the training gate: the same mathematics written out a second time, in any arithmetic.

Nothing here is shared with :mod:`perwatt.models`: separate projections, and norms, rotation, softmax and cross
entropy by hand. In float64 it is the truth. With a policy's own formats it is the yardstick: the error
that honest rounding makes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from perwatt.spec.model import ModelShape, Rope

SCORES_KEPT = 2**26  # bytes of attention scores of a layer above which they are computed again in the backward pass


@dataclass(frozen=True, kw_only=True, slots=True)
class Arithmetic:
    """Formats of a reference run.

    Attributes:
        compute: of weights in products and of every activation.
        inside: within norms, rotation, softmax and loss.
        logits: that logits are rounded to.
    """

    compute: torch.dtype
    inside: torch.dtype
    logits: torch.dtype


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """What is minimized: cross entropy over labels other than ``ignore_index``, their ``mean`` or ``sum``."""

    reduction: str
    ignore_index: int


def loss_of(
    weights: Mapping[str, Tensor], tokens: Tensor, labels: Tensor, shape: ModelShape, arithmetic: Arithmetic,
    objective: Objective,
) -> Tensor:  # fmt: skip
    """Loss of a batch [batch, seq], differentiable in ``weights`` (by name, ``layers.0.q`` and so on)."""
    table = weights["embedding"]
    stream = table[tokens].to(arithmetic.compute)
    for layer in range(shape.layers):
        own = {name.split(".")[2]: w for name, w in weights.items() if name.startswith(f"layers.{layer}.")}
        stream = stream + _attention(_norm(stream, own["attention_norm"], shape, arithmetic), own, shape, arithmetic)
        stream = stream + _swiglu(_norm(stream, own["mlp_norm"], shape, arithmetic), own, arithmetic)
    final = _norm(stream, weights["norm"], shape, arithmetic)
    logits = _times(final, weights["embedding" if shape.tied else "head"]).to(arithmetic.logits)
    return _cross_entropy(logits.to(arithmetic.inside), labels, objective)


def _times(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight.to(x.dtype).T


def _norm(x: Tensor, weight: Tensor, shape: ModelShape, arithmetic: Arithmetic) -> Tensor:
    wide = x.to(arithmetic.inside)
    root = ((wide * wide).sum(dim=-1, keepdim=True) / shape.hidden + shape.norm_eps).sqrt()
    return (wide / root * weight.to(arithmetic.compute).to(arithmetic.inside)).to(arithmetic.compute)


def _swiglu(x: Tensor, own: Mapping[str, Tensor], arithmetic: Arithmetic) -> Tensor:
    gate, up = _times(x, own["gate"]).to(arithmetic.inside), _times(x, own["up"])
    return _times((gate / (1 + torch.exp(-gate))).to(arithmetic.compute) * up, own["down"])


def _attention(x: Tensor, own: Mapping[str, Tensor], shape: ModelShape, arithmetic: Arithmetic) -> Tensor:
    q, k, v = (_times(x, own[name]).unflatten(-1, (-1, shape.head_dim)) for name in "qkv")
    cos, sin = _angles(x.shape[1], shape, arithmetic.inside, x.device)
    q, k = _turn(q, cos, sin), _turn(k, cos, sin)
    serving = [head * shape.kv_heads // shape.heads for head in range(shape.heads)]  # kv head of each query head
    scores_bytes = x.shape[0] * shape.heads * x.shape[1] ** 2 * arithmetic.inside.itemsize
    rows = []
    for i in range(x.shape[0]):
        row = (q[i], k[i][:, serving], v[i][:, serving], arithmetic)
        again = scores_bytes > SCORES_KEPT
        rows.append(checkpoint(_mixed, *row, use_reentrant=False) if again else _mixed(*row))
    return _times(torch.stack(rows).flatten(2), own["o"])


def _mixed(q: Tensor, k: Tensor, v: Tensor, arithmetic: Arithmetic) -> Tensor:
    """Attention of one sequence; all [seq, heads, head_dim]."""
    seq, _, head_dim = q.shape
    scores = torch.einsum("qhd,khd->hqk", q.to(arithmetic.inside), k.to(arithmetic.inside)) / math.sqrt(head_dim)
    position = torch.arange(seq, device=q.device)
    scores = scores.masked_fill(position[None, :] > position[:, None], -math.inf)
    powers = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
    shares = (powers / powers.sum(dim=-1, keepdim=True)).to(arithmetic.compute)
    return torch.einsum("hqk,khd->qhd", shares, v)


def _angles(seq: int, shape: ModelShape, inside: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine [seq, 1, head_dim / 2] of position times frequency, formed in float64."""
    pairs = [_frequency(2 * i / shape.head_dim, shape.rope) for i in range(shape.head_dim // 2)]
    angles = torch.tensor([[position * f for f in pairs] for position in range(seq)], dtype=torch.float64)
    return angles.cos().to(device, inside).unsqueeze(1), angles.sin().to(device, inside).unsqueeze(1)


def _frequency(fraction: float, rope: Rope) -> float:
    """Llama 3.1's ``apply_scaling``: long wavelengths stretched, short ones kept, a blend between."""
    frequency: float = 1.0 / rope.theta**fraction
    if rope.kind == "default":
        return frequency
    wavelength = 2 * math.pi / frequency
    if wavelength < rope.original_positions / rope.high_freq_factor:
        return frequency
    if wavelength > rope.original_positions / rope.low_freq_factor:
        return frequency / rope.factor
    blend: float = rope.original_positions / wavelength - rope.low_freq_factor
    blend /= rope.high_freq_factor - rope.low_freq_factor
    return (1 - blend) * frequency / rope.factor + blend * frequency


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    real, imaginary = x[..., :half].to(cos.dtype), x[..., half:].to(cos.dtype)
    return torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=-1).to(x.dtype)


def _cross_entropy(logits: Tensor, labels: Tensor, objective: Objective) -> Tensor:
    top = logits.amax(dim=-1, keepdim=True)
    log_sum = top.squeeze(-1) + (logits - top).exp().sum(dim=-1).log()
    counted = labels != objective.ignore_index
    chosen = logits.gather(-1, labels.where(counted, 0).unsqueeze(-1)).squeeze(-1)
    total = (log_sum - chosen)[counted].sum()
    return total / counted.sum() if objective.reduction == "mean" else total
