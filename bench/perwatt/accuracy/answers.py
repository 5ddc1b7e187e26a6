"""What the float64 reference says about a twin, computed once for all impls of a case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import Tensor

from perwatt.accuracy.quantizing import linear_of
from perwatt.accuracy.reference_decoder import Objective, loss_of
from perwatt.accuracy.reference_optimizer import Optimizer, Rule, clipped_by, global_norm
from perwatt.accuracy.reference_parts import Arithmetic
from perwatt.accuracy.twin import exponent_of
from perwatt.models.formats import Formats
from perwatt.models.trainer import Trainer
from perwatt.spec.data import Source
from perwatt.spec.precision import Precision, policy
from perwatt.workloads.optimizer_params import OptimizerParams
from perwatt.workloads.train_params import TrainStepParams
from perwatt_kernels.dtypes import dtype

OVERFIT_STEPS = 20
ADAMW_LR = 3e-3  # its steps do not depend on the gradient's size
MUON_LR = 1e-2  # of its matrices' elements 0.2 in the root of the mean square
SGD_STEP = 0.04  # length of the first step; twice as much oscillates within the twenty steps
NOTHING = 1e-12  # of the global norm: a gradient below this is rounding of float64
MOST_DECAY = 0.1  # share of a weight that one step of the examination may take away


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the reference says about one twin.

    Attributes:
        loss: of the first step.
        gradients: of the first step, float64.
        vanishing: names of gradients that are zero but for rounding. The bias of unrotated keys has one: it adds the
            same to all scores of a query. What an optimizer makes of such rounding is arbitrary, and changes no loss.
        errors: relative errors of the yardstick's gradients, which are computed in the policy's own formats.
        changed: weights after the first step, float64, not rounded.
        noise: relative errors that orthogonalizing in bf16 makes of those changes, by weight that is orthogonalized.
        curve: losses of the overfitting steps.
        lr: learning rate of the examination.
    """

    loss: float
    gradients: dict[str, Tensor]
    vanishing: frozenset[str]
    errors: dict[str, float]
    changed: dict[str, Tensor]
    noise: dict[str, float]
    curve: list[float]
    lr: float


@lru_cache(maxsize=4)
def answers_to(params_json: str, precision_name: str, seed: int, slots: int) -> Answers:
    """The answers for a twin's parameters and seed, worked out on the CPU.

    Args:
        params_json: the twin's :class:`TrainStepParams`.
        precision_name: the case's policy.
        seed: of the twin's data.
        slots: batches that the twin holds, which decide how its tokens are drawn.
    """
    params, precision = TrainStepParams.model_validate_json(params_json), policy(precision_name)
    plain = Trainer(params, precision, torch.device("cpu"), lambda function: function, slots)
    refill(plain, seed)
    weights, tokens, labels = doubles(plain.weights()), plain.tokens[0], plain.labels[0]

    def differentiate(
        at: Mapping[str, Tensor], kept: torch.dtype, arithmetic: Arithmetic, scale: float = 1.0
    ) -> Gradient:
        leaves = {name: w.detach().to(kept).requires_grad_() for name, w in at.items()}
        return differentiated(leaves, tokens, labels, params, arithmetic, scale)

    formats = Formats.of(precision, params.logits)
    linear = linear_of(precision)
    double = Arithmetic(compute=torch.float64, inside=torch.float64, logits=torch.float64, linear=linear)
    own = Arithmetic(compute=formats.products, inside=torch.float32, logits=formats.logits, linear=linear)
    loss, gradients = differentiate(weights, torch.float64, double)
    scale = params.loss_scale(precision)
    _, rounded = differentiate(weights, formats.storage, own, scale)
    norm = global_norm(gradients.values())
    rule = rule_of(params, precision, _rate(params, norm), params.clip)
    optimizer = Optimizer(rule)
    return Answers(
        loss=loss,
        gradients=gradients,
        vanishing=frozenset(name for name, g in gradients.items() if float(g.norm()) < NOTHING * norm),
        errors={name: distance(rounded[name].double() / scale, truth) for name, truth in gradients.items()},
        changed=optimizer.step(weights, clipped_by(rule.clip, gradients)),
        noise=optimizer.noise,
        curve=_curve(lambda at: differentiate(at, torch.float64, double), weights, rule),
        lr=rule.lr,
    )


Gradient = tuple[float, dict[str, Tensor]]  # a loss and its gradients by weight


def refill(twin: Trainer, seed: int) -> None:
    """Put the twin's initial weights and tokens in.

    Weights are made exact in the format of products: rounding master weights is honest, and would blur the first step.
    """
    twin.fill(Source(seed), "normal", exponent_of(twin.params.shape))
    with torch.no_grad():
        for stored in twin.parameters:
            stored.copy_(stored.to(twin.model.formats.products))


def differentiated(
    weights: dict[str, Tensor], tokens: Tensor, labels: Tensor, params: TrainStepParams, arithmetic: Arithmetic,
    scale: float = 1.0,
) -> Gradient:  # fmt: skip
    """Loss and gradients of the reference at leaves ``weights``; the gradients are ``scale`` times its own."""
    objective = Objective(reduction=params.loss_reduction, ignore_index=params.ignore_index)
    loss = loss_of(weights, tokens, labels, params.shape, arithmetic, objective)
    gradients = torch.autograd.grad(loss * scale, list(weights.values()))
    return float(loss.detach()), dict(zip(weights, gradients, strict=True))


def differentiated_by_sequence(
    weights: dict[str, Tensor], tokens: Tensor, labels: Tensor, params: TrainStepParams, arithmetic: Arithmetic,
    counted: Tensor,
) -> Gradient:  # fmt: skip
    """As :func:`differentiated`, one sequence after the other: no more memory than one sequence needs.

    Args:
        weights: leaves.
        tokens: sequences of a batch; where these are not all, the loss is their share of the batch's.
        labels: of these.
        params: of the whole step.
        arithmetic: formats.
        counted: labels of the whole batch that count; not used for a summed loss.
    """
    divisor = counted if params.loss_reduction == "mean" else 1
    objective = Objective(reduction="sum", ignore_index=params.ignore_index)
    total, gradients = 0.0, {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for sequence, wanted in zip(tokens.split(1), labels.split(1), strict=True):
        loss = loss_of(weights, sequence, wanted, params.shape, arithmetic, objective) / divisor
        total += float(loss.detach())
        for gradient, found in zip(gradients.values(), torch.autograd.grad(loss, list(weights.values())), strict=True):
            gradient += found
    return total, gradients


def rule_of(params: OptimizerParams, precision: Precision, lr: float, clip: float = 0.0) -> Rule:
    """The optimizer of a case at another learning rate."""
    constants = {f.name: getattr(params, f.name) for f in fields(Rule) if hasattr(params, f.name)}
    formats = {"storage": Formats.of(precision).storage, "moments": dtype(precision.moments)}
    return Rule(**constants | formats | {"name": params.optimizer, "lr": lr, "clip": clip})


def doubles(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU in float64."""
    return {name: t.detach().to("cpu", torch.float64, copy=True) for name, t in tensors.items()}


def present(tensors: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Those that are there."""
    return {name: t for name, t in tensors.items() if t is not None}


def distance(a: Tensor, truth: Tensor) -> float:
    """Frobenius norm of the difference over that of the truth; the difference itself where the truth is zero."""
    norm, error = float(truth.norm()), float((a - truth).norm())
    return error / norm if norm else error


def _curve(
    differentiate: Callable[[Mapping[str, Tensor]], Gradient], weights: Mapping[str, Tensor], rule: Rule
) -> list[float]:
    """Losses of whole steps from ``weights`` on, which are kept in the storage format as the real ones are."""
    optimizer, losses = Optimizer(rule, yardstick=False), []
    for _ in range(OVERFIT_STEPS):
        loss, gradients = differentiate(weights)
        losses.append(loss)
        exact = optimizer.step(weights, clipped_by(rule.clip, gradients))
        weights = {name: w.to(rule.storage).double() for name, w in exact.items()}
    return losses


def _rate(params: TrainStepParams, norm: float) -> float:
    """Learning rate that overfits one batch in twenty steps; ``norm`` is that of the first gradient."""
    clipped = min(norm, params.clip) if params.clip else norm
    rate = {"adamw": ADAMW_LR, "muon": MUON_LR}.get(params.optimizer, SGD_STEP / clipped)
    return min(rate, MOST_DECAY / params.weight_decay) if params.weight_decay else rate
