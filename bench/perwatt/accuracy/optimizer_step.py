"""Gate of the optimizer's step: three steps by the timed body against the float64 reference.

A small model is looked at element by element. Of a large one a fixed choice of elements of every tensor is, which is
as good for optimizers that work by elements. Of what Muon orthogonalizes, as many matrices are looked at whole as the
float64 products take little time for, one at least, and of the others the first moment and the size of the change.

Every step has another gradient: of the same one again and again, a running mean shows little.

The learning rate is one whose changes show in 16-bit weights; the case's own is only compared as a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from perwatt.accuracy import updates
from perwatt.accuracy.answers import MOST_DECAY, rule_of
from perwatt.accuracy.products import EDGES, SEED, exact
from perwatt.accuracy.reference_optimizer import Optimizer, Rule
from perwatt.models.updater import Updater
from perwatt.spec.precision import Precision
from perwatt.workloads.base import Accuracy
from perwatt.workloads.optimizer_step import OptimizerStepParams

STEPS = 3
RATE, SGD_RATE = 1e-2, 0.25  # changes of about half a weight and all of it: gradients are four times the weights
WHOLE = 2**22  # parameters up to which every element is looked at
SOME = 1024  # elements of a tensor that are looked at otherwise, tile edges beside
PRODUCTS = 2.5e9  # multiply-adds of Newton-Schulz steps that the gate may take in float64 and in bf16
SPREAD = (0.6, 1.3)  # size of an orthogonalized change over that of singular values that are all 1


def examine(
    updater: Updater, run: Callable[[], object], params: OptimizerStepParams, precision: Precision, generation: int
) -> Accuracy:
    """Three steps of ``run`` from fresh weights and gradients.

    Args:
        updater: whose weights, gradients and moments are overwritten.
        run: the timed body.
        params: of the case.
        precision: the case's policy.
        generation: of the inputs.
    """
    rate = SGD_RATE if params.optimizer == "sgd" else RATE
    rule = rule_of(params, precision, min(rate, MOST_DECAY / params.weight_decay) if params.weight_decay else rate)
    results = [updates.judged(abs(updater.lr - params.lr) / params.lr, 1e-12, "learning rate")]
    updater.refresh(generation)
    updater.lr = rule.lr
    results += _steps(updater, run, rule)
    results += _finite(updater)
    updater.lr = params.lr
    return Accuracy.worst(results)


def _steps(updater: Updater, run: Callable[[], object], rule: Rule) -> Iterator[Accuracy]:
    choice, optimizer = Choice(updater.weights(), rule), Optimizer(rule)
    followed = Optimizer(replace(rule, name="adamw", betas=(rule.momentum, 0.0)))  # keeps the first moment of Muon
    for step in range(STEPS):
        if step:
            updater.turn()
        gradients = choice.doubles(updater.gradients())
        before = choice.doubles(updater.weights())
        run()
        after = choice.doubles(updater.weights())
        judged = choice.judged(before)
        yield from updates.changes(judged, after, optimizer.step(judged, gradients), optimizer)
        others = choice.others(before)
        followed.step(others, gradients)
        for name, was in others.items():
            yield _sized(name, after[name] - was * (1 - rule.lr * rule.weight_decay), choice.shapes[name], rule)
    found = {which: choice.doubles(updater.moments(which)) for which in updates.MOMENTS}
    yield from updates.moments(found, optimizer)
    followed.second = {}
    yield from updates.moments(found, followed)


class Choice:
    """The elements that are looked at.

    Args:
        weights: of the model, by name.
        rule: which decides what has to be looked at whole.

    Attributes:
        shapes: of the weights.
    """

    def __init__(self, weights: Mapping[str, Tensor], rule: Rule) -> None:
        self.shapes = {name: tuple(w.shape) for name, w in weights.items()}
        self._hidden = {name for name, w in weights.items() if rule.orthogonalizes(name, w)}
        small = sum(w.numel() for w in weights.values()) <= WHOLE
        self._whole = self._cheapest(rule) | (set(weights) - self._hidden if small else set())

    def _cheapest(self, rule: Rule) -> set[str]:
        """Hidden matrices with products within :data:`PRODUCTS`, from the smallest on, first one of each shape."""
        found, spent = set[str](), 0.0
        order = sorted(self._hidden, key=lambda name: (math.prod(self.shapes[name]), name))
        first = {self.shapes[name]: name for name in reversed(order)}.values()
        for name in dict.fromkeys([*reversed(first), *order]):
            short, long = sorted(self.shapes[name])
            spent += STEPS * rule.ns_steps * (2.0 * short**2 * long + short**3)
            if found and spent > PRODUCTS:
                break
            found.add(name)
        return found

    def doubles(self, tensors: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        """Copies of the chosen elements in float64, with as many dimensions as the tensor has."""
        return {name: self._chosen(name, t) for name, t in tensors.items() if t is not None}

    def _chosen(self, name: str, tensor: Tensor) -> Tensor:
        if name in self._whole:
            return exact(tensor).clone()
        at = elements(tensor.numel()).to(tensor.device)
        return exact(tensor.flatten()[at].reshape(-1, *[1] * (tensor.dim() - 1)))

    def judged(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those that the reference can follow by the chosen elements."""
        return {name: t for name, t in tensors.items() if name in self._whole or name not in self._hidden}

    def others(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those that it cannot."""
        return {name: t for name, t in tensors.items() if name in self._hidden - self._whole}


def elements(size: int) -> Tensor:
    """Indices into a flat tensor: its ends, common tile edges from both, and a fixed random choice; all if few."""
    if size <= SOME:
        return torch.arange(size)
    picks = torch.randint(size, (SOME,), generator=torch.Generator().manual_seed(SEED))
    edges = torch.tensor([i for edge in EDGES for i in (edge, size - 1 - edge) if 0 <= i < size])
    indices: Tensor = torch.cat([picks, edges]).unique()
    return indices


def _sized(name: str, change: Tensor, shape: tuple[int, ...], rule: Rule) -> Accuracy:
    """Root mean square of chosen elements of a change by Muon, against that of equal singular values."""
    rows, columns = shape
    matched = 0.2 * math.sqrt(max(shape))
    adjusted = matched if rule.lr_adjust == "match_rms_adamw" else math.sqrt(max(1.0, rows / columns))
    found = float(change.square().mean().sqrt()) * math.sqrt(max(shape)) / (rule.lr * adjusted)
    least, most = SPREAD
    middle, half = (least + most) / 2, (most - least) / 2
    return updates.judged(abs(found - middle), half, f"size of the change of {name}")


def _finite(updater: Updater) -> Iterator[Accuracy]:
    """Whether every element of weights and moments is a number, chosen or not."""
    kinds = {"weight": updater.weights()}
    kinds |= {f"{which} moment": updater.moments(which) for which in updates.MOMENTS}
    for kind, tensors in kinds.items():
        for name, tensor in tensors.items():
            if not tensor.isfinite().all():
                yield Accuracy(rel_err=math.nan, bound=0.0, detail=f"{kind} of {name} is not finite")
