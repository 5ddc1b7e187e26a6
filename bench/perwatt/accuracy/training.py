"""Gate of training steps: a reduced twin against float64, and the real model against float32 (method 6).

A loss near ln(vocab) proves nothing: a model that drops a gradient has it too. So the twin, made by the same code, impl
and policy as what is timed, is examined in three parts.

1. First step: loss, global gradient norm, and of every weight the gradient's direction, size and error. The error may be
   ``FACTOR`` times that of the reference in the policy's own formats, which is what honest rounding gives, and taken
   over all weights ``AVERAGE`` times, which shows products accumulated in 16 bits.
2. Three steps on different batches: every weight must come to where the reference optimizer brings it from the twin's
   own gradients, which shows wrong betas, decay or clipping; and the first change must agree with the float64
   reference's.
3. Twenty whole steps as timed on one batch: the loss has to fall and to follow the reference's.

Parts 2 and 3 take a learning rate that overfits the batch and whose changes show in 16-bit weights; the case's own
learning rate is only compared as a number.

The real model is then compared with a float32 run of the reference on fresh tokens, where memory allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean

import torch
from perwatt_kernels.dtypes import dtype
from torch import Tensor

from perwatt.accuracy.reference_llama import Arithmetic, Objective, Optimizer, Rule, clipped_by, global_norm, loss_of
from perwatt.accuracy.twin import exponent_of
from perwatt.models.llama import Formats
from perwatt.models.trainer import Trainer
from perwatt.spec.data import Source
from perwatt.spec.precision import Precision, policy
from perwatt.workloads.base import Accuracy
from perwatt.workloads.train_params import TrainStepParams

STEPS, OVERFIT_STEPS = 3, 20
FACTOR, AVERAGE = 2.0, 1.4  # times the yardstick's error: of any one gradient, and of all together
FALL = 0.85  # the last overfitted loss over the first, at most
OVERFIT_ADAMW_LR = 3e-3
OVERFIT_SGD_STEP = 0.04  # length of the first SGD step
FRESH_SEED = 1_000_003  # offset of the seed for every generation of inputs


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Relative errors above which nothing passes, by compute format.

    Attributes:
        loss: of the first loss.
        norm: of the global gradient norm.
        angle: 1 - cosine between a gradient and the reference's.
        ratio: of the norm of one gradient.
        floor: of one gradient's error, whatever the yardstick's.
        change_angle: 1 - cosine between a weight's first change and the reference's.
        change_ratio: of the norm of that change.
        curve: of each of the overfitted losses, over the first.
    """

    loss: float
    norm: float
    angle: float
    ratio: float
    floor: float
    change_angle: float
    change_ratio: float
    curve: float


BOUNDS = {
    "fp32": Bounds(
        loss=1e-5, norm=1e-4, angle=1e-6, ratio=1e-4, floor=1e-5, change_angle=1e-3, change_ratio=2e-3,
        curve=1e-3,
    ),
    "bf16": Bounds(
        loss=5e-3, norm=1e-2, angle=1e-3, ratio=2e-2, floor=5e-3, change_angle=1e-1, change_ratio=2e-2,
        curve=6e-2,
    ),
}  # fmt: skip

OPTIMIZER = {torch.float32: 5e-5, torch.bfloat16: 1e-2}
"""Relative error, by the format it is kept in, of whatever the optimizer makes of given gradients."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the reference says about one twin.

    Attributes:
        weights: the initial ones.
        gradients: of the first step, float64.
        errors: relative error of the yardstick's gradients.
        changed: weights after the first step.
        curve: losses of the overfitted steps.
        lr: learning rate of the examination.
    """

    weights: dict[str, Tensor]
    loss: float
    gradients: dict[str, Tensor]
    errors: dict[str, float]
    changed: dict[str, Tensor]
    curve: list[float]
    lr: float


def examine(twin: Trainer, precision: Precision, seed: int) -> Accuracy:
    """The twin's three parts.

    Args:
        twin: a trainer of :func:`perwatt.accuracy.twin.twin_of` parameters; its weights and tokens are overwritten.
        precision: the case's policy.
        seed: of the twin's data.
    """
    bounds = _bounds(twin.params, precision)
    refill(twin, seed)
    answers = _answers(twin.params.model_dump_json(), precision.name, seed, twin.tokens.shape[0])
    results = [_close(twin.lr, twin.params.lr, 1e-12, "learning rate")]
    twin.lr = answers.lr
    results += _steps(twin, answers, replace(_rule(twin.params, precision), lr=answers.lr), bounds)
    results += finite(twin)
    if all(r.ok for r in results):
        refill(twin, seed)
        results += _overfit(twin, answers, bounds)
    twin.lr = twin.params.lr
    return Accuracy.worst(results)


def refill(twin: Trainer, seed: int) -> None:
    """Put the twin's initial weights and tokens in.

    Weights are made exact in the compute format: rounding master weights is honest, and would only blur the first step.
    """
    twin.fill(Source(seed), "normal", exponent_of(twin.params.shape))
    for weight in twin.weights().values():
        weight.copy_(weight.to(twin.model.formats.compute))


def _steps(twin: Trainer, answers: Answers, rule: Rule, bounds: Bounds) -> Iterator[Accuracy]:
    optimizer = Optimizer(rule)
    for step in range(STEPS):
        loss = float(twin.backward(step))
        gradients = _copies(twin.gradients())
        lost = [name for name, g in gradients.items() if g is None or not g.isfinite().all()]
        if lost:
            yield _failed(f"gradient of {lost[0]} is missing or not finite")
            return
        found = present(gradients)
        if step == 0:
            yield _close(loss, answers.loss, bounds.loss, "first loss")
            yield from _gradients(found, answers, bounds)
        before = _doubles(twin.weights())
        twin.update()
        after, clipped = _doubles(twin.weights()), _doubles(present(twin.gradients()))
        for name, wanted in clipped_by(rule.clip, found).items():
            yield _result(_distance(clipped[name], wanted), OPTIMIZER[rule.storage], f"clipped gradient of {name}")
        yield from _update(before, after, optimizer.step(before, clipped), rule)
        yield from _moments(twin, optimizer)
        if step == 0:
            yield from _first_change(before, after, answers, rule, bounds)


def _gradients(found: Mapping[str, Tensor], answers: Answers, bounds: Bounds) -> Iterator[Accuracy]:
    yield _close(global_norm(found), global_norm(answers.gradients), bounds.norm, "global gradient norm")
    for name, truth in answers.gradients.items():
        gradient = found[name]
        what = f"gradient of {name}"
        yield _result(_angle(gradient, truth), bounds.angle, f"direction of the {what}")
        yield _close(float(gradient.norm()), float(truth.norm()), bounds.ratio, f"size of the {what}")
        limit = max(FACTOR * answers.errors[name], bounds.floor)
        yield _result(_distance(gradient, truth), limit, f"error of the {what}")
    average = _geometric_mean(_distance(found[name], truth) for name, truth in answers.gradients.items())
    limit = max(AVERAGE * _geometric_mean(answers.errors.values()), bounds.floor)
    yield _result(average, limit, "error of all gradients together")


def _update(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], wanted: Mapping[str, Tensor], rule: Rule
) -> Iterator[Accuracy]:
    """Weights after a step from known gradients."""
    for name, target in wanted.items():
        moved = float((target - before[name]).norm())
        error = float((after[name] - target).norm())
        bound = OPTIMIZER[rule.storage] + _rounding(rule, before[name], moved)
        yield _result(error / moved if moved else error, bound, f"change of {name} by the optimizer")


def _moments(twin: Trainer, optimizer: Optimizer) -> Iterator[Accuracy]:
    """What the optimizer keeps, against what the reference keeps: tells betas that a changed weight hardly shows."""
    for which, wanted in (("first", optimizer.first), ("second", optimizer.second)):
        found = _doubles(twin.moments(which))
        for name, truth in wanted.items():
            yield _result(_distance(found[name], truth), OPTIMIZER[optimizer.rule.moments], f"{which} moment of {name}")


def _first_change(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], answers: Answers, rule: Rule, bounds: Bounds
) -> Iterator[Accuracy]:
    for name, target in answers.changed.items():
        change, truth = after[name] - before[name], target - before[name]
        noise = _rounding(rule, before[name], float(truth.norm()))
        yield _result(_angle(change, truth), bounds.change_angle + noise, f"direction of the change of {name}")
        yield _close(float(change.norm()), float(truth.norm()), bounds.change_ratio + noise, f"size of the change of {name}")


def _rounding(rule: Rule, weight: Tensor, moved: float) -> float:
    """One unit in the last place of a stored weight, over the length of its change."""
    return torch.finfo(rule.storage).eps * float(weight.norm()) / moved if moved else 0.0


def _overfit(twin: Trainer, answers: Answers, bounds: Bounds) -> Iterator[Accuracy]:
    losses = [float(twin.run(0)) for _ in range(OVERFIT_STEPS)]
    fall = max(FALL, (1 + answers.curve[-1] / answers.curve[0]) / 2)  # or half the reference's, where decay is strong
    if not losses[-1] <= fall * losses[0]:
        yield Accuracy(rel_err=losses[-1] / losses[0], bound=fall, detail=f"loss after {OVERFIT_STEPS} steps over the first")
    for step, (loss, truth) in enumerate(zip(losses, answers.curve, strict=True), start=1):
        yield _result(abs(loss - truth) / answers.curve[0], bounds.curve, f"loss of overfitting step {step}")


def finite(trainer: Trainer) -> Iterator[Accuracy]:
    """Whether every weight and every moment is a number."""
    kinds = {"weight": trainer.weights(), "first moment": trainer.moments("first"), "second moment": trainer.moments("second")}
    for kind, tensors in kinds.items():
        lost = [name for name, t in tensors.items() if not t.isfinite().all()]
        if lost:
            yield _failed(f"{kind} of {lost[0]} is not finite")


def full_size(trainer: Trainer, source: Source, precision: Precision) -> list[Accuracy]:
    """Loss and gradient norm of the real model on fresh tokens against the reference in float32 on the same device.

    Slot 0 gets its own tokens back. The gradients are dropped.
    """
    kept = trainer.tokens.clone(), trainer.labels.clone()
    trainer.fill_tokens(source)
    loss = float(trainer.backward(0))
    gradients = trainer.gradients()
    lost = [name for name, g in gradients.items() if g is None or not g.isfinite().all()]
    norm = global_norm(present(gradients))
    del gradients
    trainer.optimizer.zero_grad(set_to_none=True)
    single = Arithmetic(compute=torch.float32, inside=torch.float32, logits=torch.float32)
    truth, reference = _differentiated(trainer, single, 0)
    trainer.tokens.copy_(kept[0])
    trainer.labels.copy_(kept[1])
    bounds = _bounds(trainer.params, precision)
    if lost:
        return [_failed(f"gradient of {lost[0]} is missing or not finite at full size")]
    return [
        _close(loss, truth, bounds.loss, "loss at full size"),
        _close(norm, global_norm(reference), bounds.norm, "gradient norm at full size"),
    ]


def _differentiated(trainer: Trainer, arithmetic: Arithmetic, slot: int) -> tuple[float, dict[str, Tensor]]:
    """Reference loss and gradients at the trainer's present weights, which are used in place where formats agree."""
    weights = {name: w.to(arithmetic.compute).requires_grad_() for name, w in trainer.weights().items()}
    return _value_and_gradients(weights, trainer.tokens[slot], trainer.labels[slot], trainer.params, arithmetic)


def _value_and_gradients(
    weights: dict[str, Tensor], tokens: Tensor, labels: Tensor, params: TrainStepParams, arithmetic: Arithmetic
) -> tuple[float, dict[str, Tensor]]:
    objective = Objective(reduction=params.loss_reduction, ignore_index=params.ignore_index)
    loss = loss_of(weights, tokens, labels, params.shape, arithmetic, objective)
    gradients = torch.autograd.grad(loss, list(weights.values()))
    return float(loss.detach()), dict(zip(weights, gradients, strict=True))


@lru_cache(maxsize=4)
def _answers(params_json: str, precision_name: str, seed: int, slots: int) -> Answers:
    """The reference's answers on the CPU; kept, because every impl of a case is asked the same."""
    params, precision = TrainStepParams.model_validate_json(params_json), policy(precision_name)
    plain = Trainer(params, precision, torch.device("cpu"), lambda function: function, slots)
    refill(plain, seed)
    weights, tokens, labels = _doubles(plain.weights()), plain.tokens[0], plain.labels[0]
    double = Arithmetic(compute=torch.float64, inside=torch.float64, logits=torch.float64)
    formats = Formats.of(precision, params.logits)
    own = Arithmetic(compute=formats.compute, inside=torch.float32, logits=formats.logits)

    def differentiate(at: Mapping[str, Tensor], arithmetic: Arithmetic, kept: torch.dtype) -> tuple[float, dict[str, Tensor]]:
        leaves = {name: w.detach().to(kept).requires_grad_() for name, w in at.items()}
        return _value_and_gradients(leaves, tokens, labels, params, arithmetic)

    loss, gradients = differentiate(weights, double, torch.float64)
    _, rounded = differentiate(weights, own, formats.storage)
    rule = replace(_rule(params, precision), lr=_overfit_lr(params, global_norm(gradients)))
    return Answers(
        weights=weights, loss=loss, gradients=gradients,
        errors={name: _distance(rounded[name].double(), truth) for name, truth in gradients.items()},
        changed=Optimizer(rule).step(weights, clipped_by(rule.clip, gradients)),
        curve=_curve(lambda at: differentiate(at, double, torch.float64), weights, rule), lr=rule.lr,
    )  # fmt: skip


def _curve(
    differentiate: Callable[[Mapping[str, Tensor]], tuple[float, dict[str, Tensor]]], weights: Mapping[str, Tensor],
    rule: Rule,
) -> list[float]:  # fmt: skip
    optimizer, losses = Optimizer(rule), []
    for _ in range(OVERFIT_STEPS):
        loss, gradients = differentiate(weights)
        losses.append(loss)
        exact = optimizer.step(weights, clipped_by(rule.clip, gradients))
        weights = {name: w.to(rule.storage).double() for name, w in exact.items()}
    return losses


def _overfit_lr(params: TrainStepParams, norm: float) -> float:
    """AdamW's step does not depend on the gradient's size; SGD's first step is made ``OVERFIT_SGD_STEP`` long."""
    if params.optimizer == "adamw":
        return OVERFIT_ADAMW_LR
    return OVERFIT_SGD_STEP / (min(norm, params.clip) if params.clip else norm)


def _bounds(params: TrainStepParams, precision: Precision) -> Bounds:
    """Those of the narrowest format that every gradient passes through."""
    return BOUNDS["bf16" if "bf16" in (precision.compute, params.logits) else "fp32"]


def _rule(params: TrainStepParams, precision: Precision) -> Rule:
    return Rule(
        name=params.optimizer, lr=params.lr, betas=params.betas, eps=params.eps, weight_decay=params.weight_decay,
        decay=params.decay, clip=params.clip, storage=Formats.of(precision).storage, moments=dtype(precision.moments),
    )  # fmt: skip


def _copies(tensors: Mapping[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: None if t is None else t.detach().to("cpu", torch.float64) for name, t in tensors.items()}


def present(tensors: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Those that are there."""
    return {name: t for name, t in tensors.items() if t is not None}


def _doubles(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().to("cpu", torch.float64) for name, t in tensors.items()}


def _angle(a: Tensor, b: Tensor) -> float:
    """1 - cosine, without the cancellation of the plain formula; 0 where both are zero."""
    sizes = float(a.norm()), float(b.norm())
    if not all(sizes):
        return 0.0 if sizes[0] == sizes[1] else 1.0
    return float((a / sizes[0] - b / sizes[1]).square().sum()) / 2


def _distance(a: Tensor, truth: Tensor) -> float:
    norm, error = float(truth.norm()), float((a - truth).norm())
    return error / norm if norm else error


def _geometric_mean(values: Iterable[float]) -> float:
    return math.exp(fmean(math.log(max(value, 1e-30)) for value in values))


def _close(found: float, truth: float, bound: float, what: str) -> Accuracy:
    error = abs(found - truth) / abs(truth) if truth else abs(found)
    return _result(error, bound, what)


def _result(error: float, bound: float, what: str) -> Accuracy:
    return Accuracy(rel_err=error, bound=bound, detail="" if error <= bound else what)


def _failed(what: str) -> Accuracy:
    return Accuracy(rel_err=math.nan, bound=0.0, detail=what)
