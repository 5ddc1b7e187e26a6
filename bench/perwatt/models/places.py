"""What layers know of the places in a sequence: rotation, masks, and which experts a token takes. No parameters."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from perwatt.spec import routing
from perwatt.spec.model import ModelShape, Rope


class Places(nn.Module):
    """Tables for sequences of exactly ``seq`` tokens, shared by all layers.

    Args:
        shape: of the model.
        seq: tokens of a sequence.
        device: where the tables live.
        compute: format of the masks, which are added to scores.

    Attributes:
        cos: cosines for rotary positions, float32 [seq, 1, head_dim / 2]; None without them.
        sin: sines likewise.
        whole: mask of layers without a window, where fused causal attention is not enough.
        near: mask of layers with a window that is shorter than the sequence.
    """

    cos: Tensor | None
    sin: Tensor | None
    whole: Tensor | None
    near: Tensor | None

    def __init__(self, shape: ModelShape, seq: int, device: torch.device, compute: torch.dtype) -> None:
        super().__init__()
        self.shape, self.routes = shape, nn.ModuleList()
        tables: dict[str, Tensor | None] = dict.fromkeys(("cos", "sin", "whole", "near"))
        if shape.positions == "rope":
            tables["cos"], tables["sin"] = rotation(shape.rope, shape.head_dim, seq)
        if shape.positions == "alibi" or shape.attention_softcap:
            tables["whole"] = mask(shape, seq, 0)
        if 0 < shape.window < seq:
            tables["near"] = mask(shape, seq, shape.window)
        for name, table in tables.items():
            kind = compute if name in ("whole", "near") else torch.float32
            self.register_buffer(name, None if table is None else table.to(device, kind), persistent=False)
        if shape.experts:
            self.routes.extend(Route(shape, seq, layer, device) for layer in range(shape.layers))

    def mask(self, layer: int) -> Tensor | None:
        """What is added to a layer's scores [1, heads or 1, seq, seq]; None where they are causal and nothing else."""
        return self.near if self.near is not None and self.shape.window_of(layer) else self.whole

    def route(self, layer: int) -> Route:
        """Of a layer with experts."""
        found = self.routes[layer]
        assert isinstance(found, Route)
        return found


class Route(nn.Module):
    """Which experts the tokens of a sequence take in one layer, see :mod:`perwatt.spec.routing`.

    Attributes:
        experts: [seq, each] experts of every token.
        tokens: [experts x capacity] tokens of every expert; token 0 fills the places of those that have fewer.
        slots: [seq x each] where in ``tokens`` each of a token's choices stands.
    """

    experts: Tensor
    tokens: Tensor
    slots: Tensor

    def __init__(self, shape: ModelShape, seq: int, layer: int, device: torch.device) -> None:
        super().__init__()
        chosen = routing.chosen(seq, layer, shape.experts, shape.experts_per_token)
        most = routing.capacity(seq, shape.experts, shape.experts_per_token)
        tokens, slots = np.zeros((shape.experts, most), dtype=np.int64), np.empty_like(chosen)
        for expert in range(shape.experts):
            token, choice = np.nonzero(chosen == expert)
            tokens[expert, : len(token)] = token
            slots[token, choice] = expert * most + np.arange(len(token))
        for name, table in (("experts", chosen), ("tokens", tokens.ravel()), ("slots", slots.ravel())):
            self.register_buffer(name, torch.from_numpy(table).to(device), persistent=False)


def mask(shape: ModelShape, seq: int, window: int) -> Tensor:
    """Minus infinity where a query sees no key, else 0 or the ALiBi penalty; float32 [1, 1 or heads, seq, seq]."""
    place = torch.arange(seq)
    back = place[:, None] - place[None, :]
    unseen = (back < 0) | (back >= (window or seq))
    bias = torch.zeros(1, 1, 1)
    if shape.positions == "alibi":
        bias = -slopes(shape.heads).float()[:, None, None] * back
    return torch.where(unseen, -math.inf, bias)[None]


def slopes(heads: int) -> Tensor:
    """ALiBi's penalty for each step back, float64 [heads] (arXiv:2108.12409).

    2^(-8 i / n) for head i = 1..n where n is a power of two. Else n is the next smaller one, and the further heads take
    every second slope of the sequence for 2 n.
    """
    power = 2 ** int(math.log2(heads))
    plain = [2 ** (-8 * i / power) for i in range(1, power + 1)]
    between = [2 ** (-8 * i / (2 * power)) for i in range(1, 2 * power + 1, 2)]
    return torch.tensor([*plain, *between][:heads], dtype=torch.float64)


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
