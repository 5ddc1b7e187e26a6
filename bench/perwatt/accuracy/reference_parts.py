"""Parts of the reference decoder: arithmetic, norms, activations, positions.

Nothing here is shared with :mod:`perwatt.models`; both are written from the papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perwatt.spec.model import ModelShape, Rope


@dataclass(frozen=True, kw_only=True, slots=True)
class Arithmetic:
    """Formats of a reference run.

    Attributes:
        compute: of weights in products and of every activation.
        inside: within norms, rotation, activations, softmax and loss.
        logits: that logits are rounded to.
        linear: multiplies [..., in] with the transpose of a weight [out, in] in the linear layers of blocks, where
            that quantizes; the rest multiplies as it is.
    """

    compute: torch.dtype
    inside: torch.dtype
    logits: torch.dtype
    linear: Callable[[Tensor, Tensor], Tensor] | None = None


def layer_products(
    x: Tensor, own: Mapping[str, Tensor], names: Sequence[str], arithmetic: Arithmetic
) -> tuple[Tensor, ...]:
    """``x`` times the transposes of weights that all multiply it, with biases.

    They are one matrix where they are quantized: so they are stored, and share a scale of a tensor, as do gradients of
    their results that of a row.
    """
    if arithmetic.linear is None:
        return tuple(times(x, own, name) for name in names)
    weights = [own[name] for name in names]
    products = arithmetic.linear(x, torch.cat(weights).to(x.dtype)).split([len(weight) for weight in weights], dim=-1)
    return tuple(_biased(product, own, name) for product, name in zip(products, names, strict=True))


def times(x: Tensor, own: Mapping[str, Tensor], name: str) -> Tensor:
    """``x`` times the transpose of a weight, plus its bias if there is one."""
    return _biased(x @ own[name].to(x.dtype).T, own, name)


def _biased(product: Tensor, own: Mapping[str, Tensor], name: str) -> Tensor:
    bias = own.get(f"{name}_bias")
    return product if bias is None else product + bias.to(product.dtype)


def norm(x: Tensor, own: Mapping[str, Tensor], name: str, shape: ModelShape, arithmetic: Arithmetic) -> Tensor:
    """RMS norm, or layer norm, which takes the mean away first."""
    wide, weight = x.to(arithmetic.inside), own[name].to(arithmetic.compute).to(arithmetic.inside)
    if shape.norm == "layernorm":
        wide = wide - wide.sum(dim=-1, keepdim=True) / x.shape[-1]
    root = ((wide * wide).sum(dim=-1, keepdim=True) / x.shape[-1] + shape.norm_eps).sqrt()
    scaled = wide / root * weight
    if shape.norm_bias:
        scaled = scaled + own[f"{name}_bias"].to(arithmetic.compute).to(arithmetic.inside)
    return scaled.to(arithmetic.compute)


def activation(x: Tensor, kind: str, arithmetic: Arithmetic) -> Tensor:
    """SiLU or one of the two forms of GELU (arXiv:1606.08415)."""
    wide = x.to(arithmetic.inside)
    if kind == "swiglu":
        share = 1 / (1 + torch.exp(-wide))
    elif kind == "gelu_erf":
        share = (1 + torch.erf(wide / math.sqrt(2))) / 2
    else:
        share = (1 + torch.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3))) / 2
    return (wide * share).to(arithmetic.compute)


def capped(x: Tensor, limit: float) -> Tensor:
    """Soft cap: nearly ``x`` where it is small, never beyond ``limit``."""
    return limit * torch.tanh(x / limit) if limit else x


def penalties(shape: ModelShape, window: int, seq: int, device: torch.device) -> Tensor:
    """What is added to scores, minus infinity where nothing is seen, else ALiBi's; float32 [heads or 1, ...]."""
    position = torch.arange(seq, device=device)
    query, key = position[:, None], position[None, :]
    seen = key <= query
    if window:
        seen = seen & (key > query - window)
    steep = [_slope(head, shape.heads) for head in range(shape.heads)] if shape.positions == "alibi" else [0.0]
    near = (key - query).to(torch.float32)  # whole numbers; some devices have no float64
    return torch.stack([torch.where(seen, near * slope, -math.inf) for slope in steep])


def _slope(head: int, heads: int) -> float:
    """A geometric sequence that starts at its own ratio; beyond a power of two, from the sequence twice as dense."""
    covered = 1
    while 2 * covered <= heads:
        covered *= 2
    if head < covered:
        return float(0.5 ** (8 * (head + 1) / covered))
    return float(0.5 ** (4 * (2 * (head - covered) + 1) / covered))


def angles(seq: int, shape: ModelShape, inside: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine [seq, 1, head_dim / 2] of position times frequency, formed in float64."""
    pairs = [_frequency(2 * i / shape.head_dim, shape.rope) for i in range(shape.head_dim // 2)]
    turned = torch.tensor([[position * f for f in pairs] for position in range(seq)], dtype=torch.float64)
    return turned.cos().to(device, inside).unsqueeze(1), turned.sin().to(device, inside).unsqueeze(1)


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


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + head_dim / 2) of [batch, seq, heads, head_dim]."""
    half = x.shape[-1] // 2
    real, imaginary = x[..., :half].to(cos.dtype), x[..., half:].to(cos.dtype)
    return torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=-1).to(x.dtype)
