"""Optimizers written out by hand in float64: what the weights and moments of a step are judged by.

AdamW and Muon decay a weight apart from its gradient (arXiv:1711.05101), SGD adds the decay to the gradient. Muon
orthogonalizes the running mean of a matrix's gradients by Newton-Schulz steps. Those are taken in bf16 by everybody,
and they lift what is small: of a random matrix the honest result is 1 to 5 % away from the float64 one, of a matrix
with singular values near zero some tenths; one step more or less is 33 %. So the reference keeps, beside its result,
the error of a yardstick: the same steps in bf16, every product and sum rounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """An optimizer's constants; ``storage`` is the format that weights are kept in, ``moments`` that of the moments.

    The fields from ``momentum`` on are Muon's.
    """

    name: str
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decay: str
    clip: float
    storage: torch.dtype
    moments: torch.dtype
    momentum: float = 0.95
    nesterov: bool = True
    ns_steps: int = 5
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315)
    ns_eps: float = 1e-7
    lr_adjust: str = "match_rms_adamw"

    def orthogonalizes(self, name: str, weight: Tensor) -> bool:
        """Whether Muon updates a weight: the matrices of the layers, not embedding, head, tables or vectors."""
        return self.name == "muon" and weight.dim() == 2 and name.startswith("layers.")


class Optimizer:
    """AdamW, SGD or Muon by hand in float64, the moments rounded to their format between steps.

    Attributes:
        first: running mean of the gradients, by weight; empty for SGD.
        second: running mean of their squares; only of what AdamW updates.
        noise: relative error that bf16 makes of the last change of a weight, by weight that Muon updates.

    Args:
        rule: the constants.
        yardstick: whether ``noise`` is worked out, which takes as long as the rest.
    """

    def __init__(self, rule: Rule, yardstick: bool = True) -> None:
        self.rule, self.steps, self._yardstick = rule, 0, yardstick
        self.first: dict[str, Tensor] = {}
        self.second: dict[str, Tensor] = {}
        self.noise: dict[str, float] = {}

    def step(self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights after one step from clipped gradients, in float64; not yet rounded to the storage format."""
        self.steps += 1
        return {name: self._updated(name, w.double(), gradients[name].double()) for name, w in weights.items()}

    def _updated(self, name: str, weight: Tensor, gradient: Tensor) -> Tensor:
        rule = self.rule
        rate = rule.weight_decay if weight.dim() > 1 or rule.decay == "all" else 0.0
        if rule.name == "sgd":
            return weight - rule.lr * (gradient + rate * weight)
        decayed = weight - rule.lr * rate * weight
        if rule.orthogonalizes(name, weight):
            return decayed - self._muon(name, gradient)
        return decayed - self._adamw(name, gradient)

    def _adamw(self, name: str, gradient: Tensor) -> Tensor:
        beta1, beta2 = self.rule.betas
        first = self._mean(self.first, name, gradient, beta1) / (1 - beta1**self.steps)
        second = self._mean(self.second, name, gradient**2, beta2) / (1 - beta2**self.steps)
        return self.rule.lr * first / (second.sqrt() + self.rule.eps)

    def _muon(self, name: str, gradient: Tensor) -> Tensor:
        rule, (rows, columns) = self.rule, gradient.shape
        mean = self._mean(self.first, name, gradient, rule.momentum)
        ahead = rule.momentum * mean + (1 - rule.momentum) * gradient if rule.nesterov else mean
        truth = orthogonalized(ahead, rule)
        if self._yardstick:
            rounded = orthogonalized(ahead.to(rule.storage).bfloat16(), rule).double()
            self.noise[name] = float((rounded - truth).norm() / truth.norm().clamp_min(1e-300))
        matched = 0.2 * math.sqrt(max(rows, columns))
        return rule.lr * (matched if rule.lr_adjust == "match_rms_adamw" else math.sqrt(max(1, rows / columns))) * truth

    def _mean(self, means: dict[str, Tensor], name: str, value: Tensor, keep: float) -> Tensor:
        """The running mean with a value taken in; it is kept in the moments' format and returned unrounded."""
        mean = keep * means.get(name, torch.zeros_like(value)) + (1 - keep) * value
        means[name] = mean.to(self.rule.moments).double()
        return mean


def orthogonalized(matrix: Tensor, rule: Rule) -> Tensor:
    """Newton-Schulz steps x <- a x + (b y + c y^2) x with y = x x^T, in the matrix's own format.

    They bring every singular value near 1 (to about 0.7 to 1.2 with the usual coefficients), from x = matrix over its
    Frobenius norm.
    """
    a, b, c = rule.ns_coefficients
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp_min(rule.ns_eps)
    for _ in range(rule.ns_steps):
        y = x @ x.T
        x = a * x + (b * y + c * (y @ y)) @ x
    result: Tensor = x.T if matrix.shape[0] > matrix.shape[1] else x
    return result


def clipped_by(limit: float, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Float64 gradients scaled to a global norm of ``limit`` where it is larger; 0 does not clip."""
    wide = {name: g.double() for name, g in gradients.items()}
    shrink = min(1.0, limit / (global_norm(wide.values()) + 1e-6)) if limit else 1.0
    return {name: g * shrink for name, g in wide.items()}


def global_norm(gradients: Iterable[Tensor]) -> float:
    """Euclidean norm over all tensors."""
    return math.hypot(*map(_norm_of, gradients))


def _norm_of(tensor: Tensor) -> float:
    """In float64 without a float64 copy, or in float32 on devices that have no float64."""
    wide = torch.float64 if tensor.device.type in ("cpu", "cuda") else torch.float32
    return float(torch.linalg.vector_norm(tensor, dtype=wide))
