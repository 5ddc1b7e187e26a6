"""Gate of functions of several steps: the whole result and every gradient against the function written out.

The truth is the function written out in float64, a block of rows at a time. A yardstick, the same in the policy's own
formats, says what honest rounding costs; an impl may err ``FACTOR`` times as much (method 6). Errors are taken of each
tensor as a whole and row by row, because a lost tile hardly shows in the norm of a large result.

Where float64 would take too long the truth is in float32, and its first block has to agree with float64: a device that
lowers float32 products behind our back is found out there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from perwatt.accuracy.products import OUTLIER, relative_error
from perwatt.accuracy.reference_parts import Arithmetic
from perwatt.spec.precision import Precision
from perwatt.workloads.base import Accuracy
from perwatt_kernels.dtypes import dtype

FACTOR = 2.0
FLOOR = {"fp32": 1e-6, "tf32": 5e-4, "bf16": 2.2e-3, "fp16": 2.75e-4}
"""Errors of one rounding of the result, and of sums in another order: below them nobody is asked to be."""
AVERAGED = 0.1  # share of that floor for one number, in which the errors of many rows average out
BLOCK = 2**24  # elements of operands that are widened at once
AFFORDABLE = 2.0**37  # operations up to which all is done in float64: some seconds on a few cores
HONEST_FLOAT32 = 1e-4  # more is not single precision
SMALL_ROW = 0.1  # rows shorter than this share of the usual are judged as if they were as long


DOUBLE = Arithmetic(compute=torch.float64, inside=torch.float64, logits=torch.float64)
SINGLE = Arithmetic(compute=torch.float32, inside=torch.float32, logits=torch.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One evaluation that is to be judged.

    Attributes:
        operands: as the impl got them.
        rows: of each, whether its first dimension runs over independent rows.
        names: of the operands, for messages.
        written: the function in an arithmetic; a sum over rows where the result is one number.
        flops: operations of the pass.
    """

    operands: Sequence[Tensor]
    rows: tuple[bool, ...]
    names: tuple[str, ...]
    written: Callable[[Arithmetic], Callable[..., Tensor]]
    flops: float

    def blocks(self, incoming: Tensor | None) -> Iterator[tuple[Problem, Tensor | None]]:
        """The problem by groups of rows, each with its part of the gradient that flows in."""
        cut = [t for t, rows in zip(self.operands, self.rows, strict=True) if rows]
        if not cut:
            yield self, incoming
            return
        extent, elements = cut[0].shape[0], sum(t.numel() for t in cut)
        step = max(1, BLOCK * extent // max(elements, 1))
        for at in range(0, extent, step):
            own = slice(at, at + step)
            operands = [t[own] if rows else t for t, rows in zip(self.operands, self.rows, strict=True)]
            yield replace(self, operands=operands), _rows(incoming, own)


@dataclass(slots=True)
class Answer:
    """What comes out of a function: result, and the gradients of its floating-point operands."""

    result: Tensor
    gradients: list[Tensor]

    def tensors(self) -> list[Tensor]:
        """All of them, the result first."""
        return [self.result, *self.gradients]


def check(
    problem: Problem, precision: Precision, incoming: Tensor | None, result: Tensor | None,
    gradients: Sequence[Tensor] | None,
) -> Accuracy:  # fmt: skip
    """Whether ``result`` and ``gradients`` are those of the function.

    Args:
        problem: the evaluation.
        precision: policy, whose formats the yardstick computes in.
        incoming: gradient that flowed into the result, or None.
        result: what the impl gave, or None where it gave only gradients.
        gradients: of the floating-point operands, or None.
    """
    backward = incoming if gradients is not None else None
    names = _names(problem)
    found = [None if result is None else result.detach(), *(gradients or ())]
    for name, tensor in zip(names, found, strict=False):
        if tensor is not None and not tensor.isfinite().all():
            return Accuracy(rel_err=float("nan"), bound=0.0, detail=f"NaN or infinity in {name}")
    wide = DOUBLE if problem.flops <= AFFORDABLE else SINGLE
    truth = _whole(problem, wide, backward)
    first, flowing = next(problem.blocks(backward))
    exact, rounded = _evaluate(first, DOUBLE, flowing), _evaluate(first, _own(precision), flowing)
    if wide is SINGLE and (lowered := _lowered(first, exact, flowing)):
        return lowered
    results = []
    for name, actual, true, near, far in zip(
        names, found, truth.tensors(), rounded.tensors(), exact.tensors(), strict=False
    ):
        if actual is not None:
            narrow = precision.compute if problem.flops else precision.activations  # tf32 is in products only
            floor = FLOOR[narrow]
            if not true.dim():
                floor = FLOOR[narrow] * AVERAGED if problem.flops else FLOOR[precision.loss]
            floor = max(floor, FLOOR["fp32"])
            bound = FACTOR * max(relative_error(near, far), floor)
            results.append(_compared(actual, true, bound, name))
    return Accuracy.worst(results)


def _names(problem: Problem) -> list[str]:
    pairs = zip(problem.names, problem.operands, strict=True)
    return ["result", *(f"gradient of {name}" for name, tensor in pairs if tensor.is_floating_point())]


def _own(precision: Precision) -> Arithmetic:
    return Arithmetic(compute=dtype(precision.activations), inside=torch.float32, logits=dtype(precision.logits))


def _whole(problem: Problem, arithmetic: Arithmetic, incoming: Tensor | None) -> Answer:
    """All rows, block by block: results are joined, or summed where they are one number; weights' gradients add up."""
    parts = [_evaluate(part, arithmetic, flowing) for part, flowing in problem.blocks(incoming)]
    by_rows = [rows for rows, t in zip(problem.rows, problem.operands, strict=True) if t.is_floating_point()]
    results = [part.result for part in parts]
    joined = torch.stack(results).sum(dim=0) if results[0].dim() == 0 else torch.cat(results)
    columns = zip(*(part.gradients for part in parts), strict=True)
    gradients = [torch.cat(c) if rows else torch.stack(c).sum(dim=0) for c, rows in zip(columns, by_rows, strict=False)]
    return Answer(result=joined, gradients=gradients)


def _evaluate(problem: Problem, arithmetic: Arithmetic, incoming: Tensor | None) -> Answer:
    """The function written out, and its gradients where one flows in; on the host if the device has no float64."""
    wide = arithmetic.compute == torch.float64
    leaves = [_leaf(t, arithmetic.compute, wide, incoming is not None) for t in problem.operands]
    result = problem.written(arithmetic)(*leaves)
    if incoming is None:
        return Answer(result=result.detach(), gradients=[])
    differentiable = [t for t in leaves if t.requires_grad]
    gradients = torch.autograd.grad(result, differentiable, incoming.to(result))
    return Answer(result=result.detach(), gradients=list(gradients))


def _leaf(tensor: Tensor, compute: torch.dtype, wide: bool, gradient: bool) -> Tensor:
    tensor = tensor.detach()
    if wide and tensor.device.type not in ("cpu", "cuda"):
        tensor = tensor.cpu()
    if not tensor.is_floating_point():
        return tensor
    # the residual stream under autocast is wider than the arithmetic of what branches off it
    return tensor.to(torch.promote_types(tensor.dtype, compute)).requires_grad_(gradient)


def _rows(incoming: Tensor | None, own: slice) -> Tensor | None:
    """Those of a gradient; one number flows into every block."""
    return incoming[own] if incoming is not None and incoming.dim() else incoming


def _lowered(first: Problem, exact: Answer, incoming: Tensor | None) -> Accuracy | None:
    """A failure if float32 on this device is not single precision."""
    single = _evaluate(first, SINGLE, incoming)
    for name, near, far in zip(_names(first), single.tensors(), exact.tensors(), strict=False):
        error = relative_error(near, far)
        if not error <= HONEST_FLOAT32:
            return Accuracy(rel_err=error, bound=HONEST_FLOAT32, detail=f"the float32 reference errs in the {name}")
    return None


def _compared(actual: Tensor, truth: Tensor, bound: float, name: str) -> Accuracy:
    """The whole by its norm, and each row against ``OUTLIER`` times the bound."""
    truth = truth.double() if truth.device.type in ("cpu", "cuda") else truth.cpu().double()
    total = relative_error(actual, truth)
    if not total <= bound:
        return Accuracy(rel_err=total, bound=bound, detail=f"{name} differs from the function written out")
    if truth.dim() > 1:
        rows, difference = (t.reshape(-1, truth.shape[-1]) for t in (truth, actual.to(truth) - truth))
        sizes, errors = rows.norm(dim=1), difference.norm(dim=1)
        usual = float(sizes.square().mean().sqrt())
        by_row = errors / sizes.clamp_min(max(SMALL_ROW * usual, 1e-300))
        worst = float(by_row.max())
        if not worst <= OUTLIER * bound:
            row = int(by_row.argmax())
            return Accuracy(rel_err=worst, bound=OUTLIER * bound, detail=f"{name}: row {row} differs")
    return Accuracy(rel_err=total, bound=bound)
