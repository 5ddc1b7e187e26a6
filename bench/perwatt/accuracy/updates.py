"""Whether an optimizer makes of given gradients what the reference makes of them, by weight and by moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from perwatt.accuracy.reference_optimizer import Optimizer, Rule
from perwatt.workloads.base import Accuracy

MOMENTS = ("first", "second")
FACTOR = 2.0  # times the error that the yardstick makes by orthogonalizing in bf16
EXACT = {torch.float32: 5e-5, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Relative error, by the format it is kept in, of whatever the optimizer makes of given gradients."""


def changes(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], wanted: Mapping[str, Tensor], optimizer: Optimizer
) -> Iterator[Accuracy]:
    """Changes of weights by a step from known gradients.

    Args:
        before: weights before the step, in float64 like all others.
        after: weights after it.
        wanted: what the reference made of ``before``.
        optimizer: the reference.
    """
    rule = optimizer.rule
    for name, target in wanted.items():
        moved = float((target - before[name]).norm())
        error = float((after[name] - target).norm())
        bound = EXACT[rule.storage] + rounding(rule, before[name], moved) + FACTOR * optimizer.noise.get(name, 0.0)
        yield judged(error / moved if moved else error, bound, f"change of {name} by the optimizer")


def moments(found: Mapping[str, Mapping[str, Tensor]], optimizer: Optimizer) -> Iterator[Accuracy]:
    """What the optimizer keeps, against what the reference keeps: tells betas that a changed weight hardly shows.

    Args:
        found: moments by weight, ``first`` and ``second``.
        optimizer: the reference after the same steps.
    """
    for which, wanted in (("first", optimizer.first), ("second", optimizer.second)):
        for name, truth in wanted.items():
            what = f"{which} moment of {name}"
            if name not in found[which]:
                yield Accuracy(rel_err=float("nan"), bound=0.0, detail=f"{what} is missing")
                continue
            norm, error = float(truth.norm()), float((found[which][name] - truth).norm())
            yield judged(error / norm if norm else error, EXACT[optimizer.rule.moments], what)


def rounding(rule: Rule, weight: Tensor, moved: float) -> float:
    """One unit in the last place of a stored weight, over the length of its change."""
    return torch.finfo(rule.storage).eps * float(weight.norm()) / moved if moved else 0.0


def underflow(kept: torch.dtype, tensor: Tensor) -> float:
    """The distance of neighbours near zero, for every element, over the length of a tensor: much in fp16 only."""
    step, length = torch.finfo(kept).smallest_normal * torch.finfo(kept).eps, float(tensor.norm())
    return step * tensor.numel() ** 0.5 / length if length else 0.0


def judged(error: float, bound: float, what: str) -> Accuracy:
    """The outcome of one check, which ``what`` names where it fails."""
    return Accuracy(rel_err=error, bound=bound, detail="" if error <= bound else what)
