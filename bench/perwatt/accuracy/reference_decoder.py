"""The reference of the training gate: the same mathematics written out a second time, in any arithmetic.

Nothing here is shared with :mod:`perwatt.models`: separate projections, and norms, rotation, softmax, experts and cross
entropy by hand. In float64 it is the truth. With a policy's own formats it is the yardstick: the error that honest
rounding makes. Only the table of which token takes which expert is common, as it is part of the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from perwatt.accuracy.reference_parts import (
    Arithmetic,
    activation,
    angles,
    capped,
    layer_products,
    norm,
    penalties,
    times,
    turn,
)
from perwatt.spec import routing
from perwatt.spec.model import ModelShape

SCORES_KEPT = 2**26  # bytes of attention scores of a layer above which they are computed again in the backward pass


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
    stream = weights["embedding"][tokens].to(arithmetic.compute)
    stream = (stream.to(arithmetic.inside) * shape.embedding_scale).to(arithmetic.compute)
    if shape.positions == "learned":
        stream = stream + weights["positions"][: tokens.shape[1]].to(arithmetic.compute)
    for index in range(shape.layers):
        prefix = f"layers.{index}."
        own = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        stream = layer(own, stream, shape, index, arithmetic)
    final = norm(stream, weights, "norm", shape, arithmetic)
    head = {"head": weights["embedding"]} if shape.tied else {}
    logits = times(final, {**weights, **head}, "head").to(arithmetic.logits)
    if shape.logit_softcap:
        logits = capped(logits.to(arithmetic.inside), shape.logit_softcap).to(arithmetic.logits)
    return _cross_entropy(logits.to(arithmetic.inside), labels, objective)


def layer(weights: Mapping[str, Tensor], x: Tensor, shape: ModelShape, index: int, arithmetic: Arithmetic) -> Tensor:
    """One layer.

    Args:
        weights: by their names within the layer (``q``, ``experts.0.up``).
        x: [batch, seq, hidden].
        shape: of the model.
        index: which layer it is.
        arithmetic: formats.

    Returns:
        [batch, seq, hidden].
    """
    found = attention(weights, norm(x, weights, "attention_norm", shape, arithmetic), shape, index, arithmetic)
    if shape.post_norm:
        found = norm(found, weights, "attention_post_norm", shape, arithmetic)
    x = x + found
    mix = mixture if shape.experts else feed_forward
    found = mix(weights, norm(x, weights, "mlp_norm", shape, arithmetic), shape, index, arithmetic)
    if shape.post_norm:
        found = norm(found, weights, "mlp_post_norm", shape, arithmetic)
    return x + found


def feed_forward(
    weights: Mapping[str, Tensor], x: Tensor, shape: ModelShape, index: int, arithmetic: Arithmetic
) -> Tensor:
    """Up, activation, down; ``x`` [..., hidden]. All layers are alike."""
    *gate, up = layer_products(x, weights, ("gate", "up") if shape.gated else ("up",), arithmetic)
    inner = activation(gate[0] if gate else up, shape.activation, arithmetic)
    return layer_products(inner * up if gate else inner, weights, ("down",), arithmetic)[0]


def mixture(weights: Mapping[str, Tensor], x: Tensor, shape: ModelShape, index: int, arithmetic: Arithmetic) -> Tensor:
    """Sum over each token's experts of their results times the router's shares; ``x`` [batch, seq, hidden]."""
    table = routing.chosen(x.shape[1], index, shape.experts, shape.experts_per_token)
    scores = times(x, weights, "router").to(arithmetic.inside)
    powers = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
    taken = torch.zeros(x.shape[1], shape.experts, dtype=powers.dtype)
    taken[torch.arange(x.shape[1])[:, None], torch.from_numpy(table)] = 1
    powers = powers * taken.to(x.device)
    shares = (powers / powers.sum(dim=-1, keepdim=True)).to(arithmetic.compute).to(arithmetic.inside)
    total = torch.zeros_like(x, dtype=arithmetic.inside)
    for expert in range(shape.experts):
        mine = taken[:, expert].nonzero().squeeze(-1).to(x.device)
        own = {name: weights[f"experts.{expert}.{name}"] for name in ("gate", "up", "down")[not shape.gated :]}
        found = feed_forward(own, x[:, mine], shape, index, arithmetic).to(arithmetic.inside)
        total = total.index_add(1, mine, shares[:, mine, expert, None] * found)
    return total.to(arithmetic.compute)


def attention(
    weights: Mapping[str, Tensor], x: Tensor, shape: ModelShape, index: int, arithmetic: Arithmetic
) -> Tensor:
    """Causal attention of ``x`` [batch, seq, hidden], one sequence after another."""
    q, k, v = (product.unflatten(-1, (-1, shape.head_dim)) for product in layer_products(x, weights, "qkv", arithmetic))
    if shape.qk_norm:
        q, k = (norm(t, weights, name, shape, arithmetic) for t, name in ((q, "q_norm"), (k, "k_norm")))
    if shape.positions == "rope":
        cos, sin = angles(x.shape[1], shape, arithmetic.inside, x.device)
        q, k = turn(q, cos, sin), turn(k, cos, sin)
    serving = [head * shape.kv_heads // shape.heads for head in range(shape.heads)]  # kv head of each query head
    window = shape.window if index % shape.window_every == 0 else 0
    again = x.shape[0] * shape.heads * x.shape[1] ** 2 * arithmetic.inside.itemsize > SCORES_KEPT
    rows = []
    for i in range(x.shape[0]):
        row = (q[i], k[i][:, serving], v[i][:, serving], window, shape, arithmetic)
        rows.append(checkpoint(_mixed, *row, use_reentrant=False) if again else _mixed(*row))
    return layer_products(torch.stack(rows).flatten(2), weights, ("o",), arithmetic)[0]


def _mixed(q: Tensor, k: Tensor, v: Tensor, window: int, shape: ModelShape, arithmetic: Arithmetic) -> Tensor:
    """Attention of one sequence; all [seq, heads, head_dim]."""
    scores = torch.einsum("qhd,khd->hqk", q.to(arithmetic.inside), k.to(arithmetic.inside))
    scale = shape.attention_scale or 1 / shape.head_dim**0.5
    scores = capped(scores * scale, shape.attention_softcap) + penalties(shape, window, len(q), q.device).to(scores)
    powers = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
    shares = (powers / powers.sum(dim=-1, keepdim=True)).to(arithmetic.compute)
    return torch.einsum("hqk,khd->qhd", shares, v)


def _cross_entropy(logits: Tensor, labels: Tensor, objective: Objective) -> Tensor:
    top = logits.amax(dim=-1, keepdim=True)
    log_sum = top.squeeze(-1) + (logits - top).exp().sum(dim=-1).log()
    counted = labels != objective.ignore_index
    chosen = logits.gather(-1, labels.where(counted, 0).unsqueeze(-1)).squeeze(-1)
    total = (log_sum - chosen)[counted].sum()
    return total / counted.sum() if objective.reduction == "mean" else total
