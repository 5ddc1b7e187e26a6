"""Optimizers written out by hand in float64: what the weights and moments of a step are judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """An optimizer's constants; ``storage`` is the format that weights are kept in, ``moments`` that of the moments."""

    name: str
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decay: str
    clip: float
    storage: torch.dtype
    moments: torch.dtype


class Optimizer:
    """AdamW or SGD by hand in float64, the moments rounded to their format between steps.

    Attributes:
        first: running mean of the gradients, by weight; empty for SGD.
        second: running mean of their squares.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule, self.steps = rule, 0
        self.first: dict[str, Tensor] = {}
        self.second: dict[str, Tensor] = {}

    def step(self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights after one step from clipped gradients, in float64; not yet rounded to the storage format."""
        self.steps += 1
        return {name: self._updated(name, w.double(), gradients[name].double()) for name, w in weights.items()}

    def _updated(self, name: str, weight: Tensor, gradient: Tensor) -> Tensor:
        rule = self.rule
        rate = rule.weight_decay if weight.dim() > 1 or rule.decay == "all" else 0.0
        if rule.name == "sgd":
            return weight - rule.lr * (gradient + rate * weight)
        beta1, beta2 = rule.betas
        first = beta1 * self.first.get(name, torch.zeros_like(weight)) + (1 - beta1) * gradient
        second = beta2 * self.second.get(name, torch.zeros_like(weight)) + (1 - beta2) * gradient**2
        self.first[name], self.second[name] = (m.to(rule.moments).double() for m in (first, second))
        mean, square = first / (1 - beta1**self.steps), second / (1 - beta2**self.steps)
        return weight - rule.lr * rate * weight - rule.lr * mean / (square.sqrt() + rule.eps)


def clipped_by(limit: float, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Float64 gradients scaled to a global norm of ``limit`` where it is larger; 0 does not clip."""
    wide = {name: g.double() for name, g in gradients.items()}
    shrink = min(1.0, limit / (global_norm(wide) + 1e-6)) if limit else 1.0
    return {name: g * shrink for name, g in wide.items()}


def global_norm(gradients: Mapping[str, Tensor]) -> float:
    """Euclidean norm over all tensors."""
    return math.hypot(*(_norm_of(g) for g in gradients.values()))


def _norm_of(tensor: Tensor) -> float:
    """In float64 without a float64 copy, or in float32 on devices that have no float64."""
    wide = torch.float64 if tensor.device.type in ("cpu", "cuda") else torch.float32
    return float(torch.linalg.vector_norm(tensor, dtype=wide))
