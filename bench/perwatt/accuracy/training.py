"""Gate of training steps: a reduced twin against float64, and the real model against float32 (docs/method.md).

A loss near ln(vocab) proves nothing: a model that drops a gradient has it too. So the twin, made by the same code, impl
and policy as what is timed, is examined in three parts.

1. First step: loss, global gradient norm, and of every weight the gradient's direction, size and error. The error may
   be ``FACTOR`` times that of the reference in the policy's own formats, which is what honest rounding gives (direction
   and size may be as wrong as follows from that), and taken over all weights ``AVERAGE`` times, which shows products
   accumulated in 16 bits.
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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from perwatt.accuracy import updates
from perwatt.accuracy.answers import (
    OVERFIT_STEPS,
    Answers,
    answers_to,
    differentiated_by_sequence,
    distance,
    doubles,
    present,
    refill,
    rule_of,
)
from perwatt.accuracy.quantizing import layers, linear_of
from perwatt.accuracy.reference_optimizer import Optimizer, Rule, clipped_by, global_norm
from perwatt.accuracy.reference_parts import Arithmetic
from perwatt.accuracy.single import exact
from perwatt.models.trainer import Trainer
from perwatt.spec.data import Source
from perwatt.spec.precision import Precision
from perwatt.workloads.base import Accuracy
from perwatt.workloads.train_params import TrainStepParams

STEPS = 3
FACTOR, AVERAGE = 2.0, 1.4  # times the yardstick's error: of any one gradient, and of all together
FAINT = 2.0**-24  # times the loss: gradients that come through e5m2 by scales of their own only
FALL = 0.85  # the last overfitted loss over the first, at most
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
        curve=5e-3,
    ),
    "fp16": Bounds(
        loss=1e-3, norm=2e-3, angle=1e-4, ratio=5e-3, floor=1e-3, change_angle=1e-1, change_ratio=2e-2,
        curve=6e-2,
    ),
    "bf16": Bounds(
        loss=5e-3, norm=1e-2, angle=1e-3, ratio=2e-2, floor=5e-3, change_angle=1e-1, change_ratio=2e-2,
        curve=6e-2,
    ),
    "fp8": Bounds(
        loss=2e-2, norm=5e-2, angle=1e-3, ratio=2e-2, floor=5e-3, change_angle=1e-1, change_ratio=2e-2,
        curve=6e-2,
    ),
}  # fmt: skip
"""Those of ``fp8`` are of steps whose linear layers quantize: loss and norm are twice what honest twins keep to."""


def examine(twin: Trainer, precision: Precision, seed: int) -> Accuracy:
    """The twin's three parts.

    Args:
        twin: a trainer of :func:`perwatt.accuracy.twin.twin_of` parameters; its weights and tokens are overwritten.
        precision: the case's policy.
        seed: of the twin's data.
    """
    bounds = _bounds(twin.params, precision)
    refill(twin, seed)
    answers = answers_to(twin.params.model_dump_json(), precision.name, seed, twin.tokens.shape[0])
    results = [_close(twin.lr, twin.params.lr, 1e-12, "learning rate")]
    if precision.scaling != "none":
        results += [*layers(twin, precision, seed), *_faint(twin, answers)]
    twin.lr = answers.lr
    results += _steps(twin, answers, rule_of(twin.params, precision, answers.lr, twin.params.clip), bounds)
    results += finite(twin)
    if all(r.ok for r in results):
        refill(twin, seed)
        results += _overfit(twin, answers, bounds)
    twin.lr = twin.params.lr
    return Accuracy.worst(results)


def _steps(twin: Trainer, answers: Answers, rule: Rule, bounds: Bounds) -> Iterator[Accuracy]:
    optimizer = Optimizer(rule)
    for step in range(STEPS):
        loss = float(twin.spread.total(twin.backward(step)))
        if lost := _lost(twin):
            yield _failed(f"gradient of {lost[0]} is missing or not finite")
            return
        found = doubles(present(twin.gradients()))
        if step == 0:
            yield _close(loss, answers.loss, bounds.loss, "first loss")
            yield from _gradients(found, answers, bounds)
        before = doubles(twin.weights())
        twin.update()
        after, clipped = doubles(twin.weights()), doubles(present(twin.gradients()))
        for name, wanted in clipped_by(rule.clip, found).items():
            bound = updates.EXACT[rule.storage] + updates.underflow(rule.storage, wanted)
            yield updates.judged(distance(clipped[name], wanted), bound, f"clipped gradient of {name}")
        wanted_weights = optimizer.step(before, clipped)
        yield from updates.changes(before, after, wanted_weights, optimizer)
        yield from updates.moments({which: doubles(twin.moments(which)) for which in updates.MOMENTS}, optimizer)
        if step == 0:
            yield from _first_change(before, after, answers, rule, bounds)


def _faint(twin: Trainer, answers: Answers) -> Iterator[Accuracy]:
    """Gradients of a loss that is multiplied by :data:`FAINT`, against those of the loss after all.

    Powers of two change nothing in an honest step. The bound is that of two honest ones.
    """
    found = doubles(present(_backward(twin, twin.scale)))
    faint = doubles(present(_backward(twin, twin.scale * FAINT)))
    for name, gradient in found.items():
        if name not in answers.vanishing:
            limit = FACTOR * answers.errors[name]
            yield updates.judged(distance(faint[name], gradient), limit, f"gradient of {name} from a faint loss")


def _backward(twin: Trainer, scale: float) -> dict[str, Tensor | None]:
    kept, twin.scale = twin.scale, scale
    twin.backward(0)
    twin.scale = kept
    return twin.gradients()


def _gradients(found: Mapping[str, Tensor], answers: Answers, bounds: Bounds) -> Iterator[Accuracy]:
    size = global_norm(answers.gradients.values())
    yield _close(global_norm(found.values()), size, bounds.norm, "global gradient norm")
    for name in answers.vanishing:
        yield updates.judged(
            float(found[name].norm()) / size, bounds.floor, f"size of the gradient of {name}, which is zero"
        )
    telling = {name: truth for name, truth in answers.gradients.items() if name not in answers.vanishing}
    for name, truth in telling.items():
        gradient = found[name]
        what = f"gradient of {name}"
        limit = max(FACTOR * answers.errors[name], bounds.floor)
        yield updates.judged(_angle(gradient, truth), max(bounds.angle, limit**2 / 2), f"direction of the {what}")
        yield _close(float(gradient.norm()), float(truth.norm()), max(bounds.ratio, limit), f"size of the {what}")
        yield updates.judged(distance(gradient, truth), limit, f"error of the {what}")
    average = _geometric_mean(distance(found[name], truth) for name, truth in telling.items())
    limit = max(AVERAGE * _geometric_mean(answers.errors[name] for name in telling), bounds.floor)
    yield updates.judged(average, limit, "error of all gradients together")


def _first_change(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], answers: Answers, rule: Rule, bounds: Bounds
) -> Iterator[Accuracy]:
    for name, target in answers.changed.items():
        if name in answers.vanishing:
            continue
        change, truth = after[name] - before[name], target - before[name]
        rounding = updates.rounding(rule, before[name], float(truth.norm()))
        noise = updates.FACTOR * answers.noise.get(name, 0.0)  # two vectors this far apart, and their angle
        turned = 0.0 if rule.name == "sgd" or name in answers.noise else 2 * _undecided(name, answers)
        angle, size = bounds.change_angle + rounding + noise**2 / 2, bounds.change_ratio + rounding + noise
        yield updates.judged(_angle(change, truth), angle + turned, f"direction of the change of {name}")
        yield _close(float(change.norm()), float(truth.norm()), size, f"size of the change of {name}")


def _undecided(name: str, answers: Answers) -> float:
    """Share of a gradient's elements that rounding may turn over: AdamW's first step is little but their signs."""
    truth = answers.gradients[name]
    noise = FACTOR * answers.errors[name] * float(truth.square().mean().sqrt())
    return float((truth.abs() < noise).double().mean())


def _overfit(twin: Trainer, answers: Answers, bounds: Bounds) -> Iterator[Accuracy]:
    losses = [float(twin.spread.total(twin.run(0))) for _ in range(OVERFIT_STEPS)]
    half = (1 + answers.curve[-1] / answers.curve[0]) / 2 + bounds.loss
    fall = max(FALL, half)  # half as far as the reference, where the case's constants let it fall little
    if not losses[-1] <= fall * losses[0]:
        yield Accuracy(
            rel_err=losses[-1] / losses[0], bound=fall, detail=f"loss after {OVERFIT_STEPS} steps over the first"
        )
    for step, (loss, truth) in enumerate(zip(losses, answers.curve, strict=True), start=1):
        yield updates.judged(abs(loss - truth) / answers.curve[0], bounds.curve, f"loss of overfitting step {step}")


def finite(trainer: Trainer) -> Iterator[Accuracy]:
    """Whether every weight and every moment is a number."""
    kinds = {
        "weight": trainer.each_weight(),
        "first moment": trainer.each_moment("first"),
        "second moment": trainer.each_moment("second"),
    }
    for kind, tensors in kinds.items():
        lost = [name for name, t in tensors if not t.isfinite().all()]
        if lost:
            yield _failed(f"{kind} of {lost[0]} is not finite")


def full_size(trainer: Trainer, source: Source, precision: Precision) -> list[Accuracy]:
    """Loss and gradient norm of the real model on fresh tokens against the reference in float32 on the same device.

    Slot 0 gets its own tokens back. The gradients are dropped.
    """
    kept = trainer.tokens.clone(), trainer.labels.clone(), trainer.counted.clone()
    trainer.fill_tokens(source)
    spread = trainer.spread
    loss = float(spread.total(trainer.backward(0)))
    lost, norm = _lost(trainer), global_norm(g for _, g in trainer.each_gradient() if g is not None)
    trainer.optimizer.zero_grad(set_to_none=True)
    linear = linear_of(precision)
    single = Arithmetic(compute=torch.float32, inside=torch.float32, logits=torch.float32, linear=linear)
    weights = {name: w.to(torch.float32).requires_grad_() for name, w in trainer.weights().items()}
    batch = trainer.tokens[0], trainer.labels[0]
    with exact():
        share, parts = differentiated_by_sequence(weights, *batch, trainer.params, single, trainer.counted[0])
        truth = float(spread.total(torch.tensor(share, device=batch[0].device)))
        wanted = global_norm(spread.total(part) for part in parts.values())
    trainer.tokens.copy_(kept[0])
    trainer.labels.copy_(kept[1])
    trainer.counted.copy_(kept[2])
    bounds = _bounds(trainer.params, precision)
    if lost:
        return [_failed(f"gradient of {lost[0]} is missing or not finite at full size")]
    return [
        _close(loss, truth, bounds.loss, "loss at full size"),
        _close(norm, wanted, bounds.norm, "gradient norm at full size"),
    ]


def _lost(trainer: Trainer) -> list[str]:
    """Weights without a gradient, or with one that is not finite."""
    return [name for name, g in trainer.each_gradient() if g is None or not g.isfinite().all()]


def _bounds(params: TrainStepParams, precision: Precision) -> Bounds:
    """Those of the narrowest format that every gradient passes through."""
    if precision.scaling != "none":
        return BOUNDS["fp8"]
    formats = precision.compute, params.logits
    return BOUNDS[next((name for name in ("bf16", "fp16") if name in formats), "fp32")]


def _angle(a: Tensor, b: Tensor) -> float:
    """1 - cosine, without the cancellation of the plain formula; 0 where both are zero."""
    sizes = float(a.norm()), float(b.norm())
    if not all(sizes):
        return 0.0 if sizes[0] == sizes[1] else 1.0
    return float((a / sizes[0] - b / sizes[1]).square().sum()) / 2


def _geometric_mean(values: Iterable[float]) -> float:
    return math.exp(fmean(math.log(max(value, 1e-30)) for value in values))


def _close(found: float, truth: float, bound: float, what: str) -> Accuracy:
    error = abs(found - truth) / abs(truth) if truth else abs(found)
    return updates.judged(error, bound, what)


def _failed(what: str) -> Accuracy:
    return Accuracy(rel_err=math.nan, bound=0.0, detail=what)
