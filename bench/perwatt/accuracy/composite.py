"""Gate of functions of several steps: the whole result and every gradient against the function written out.

The truth is the function written out in float64, a block of rows at a time, so that the gate needs little memory beside
operands and results. A yardstick, the same in the policy's own formats, says what honest rounding costs; an impl may
err ``FACTOR`` times as much (docs/method.md). Errors are taken of each tensor as a whole and row by row, because a lost
tile hardly shows in the norm of a large result.

Where float64 would take too long the truth is in float32, and its first block has to agree with float64: a device that
lowers float32 products behind our back is found out there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from perwatt.accuracy import blocks, single
from perwatt.accuracy.products import relative_error
from perwatt.accuracy.reference_parts import Arithmetic
from perwatt.accuracy.tally import Tally
from perwatt.spec.precision import Precision
from perwatt.workloads.base import Accuracy
from perwatt_kernels.dtypes import dtype

FACTOR = 2.0
FLOOR = {"fp32": 1e-6, "tf32": 5e-4, "bf16": 2.2e-3, "fp16": 2.75e-4}
"""Errors of one rounding of the result, and of sums in another order: below them nobody is asked to be."""
AVERAGED = 0.1  # share of that floor for one number, in which the errors of many rows average out
PROBE = 2**24  # elements of operands that the yardstick looks at
AFFORDABLE = 2.0**37  # operations up to which all is done in float64: some seconds on a few cores
HONEST_FLOAT32 = 1e-4  # more is not single precision

DOUBLE = Arithmetic(compute=torch.float64, inside=torch.float64, logits=torch.float64)
SINGLE = Arithmetic(compute=torch.float32, inside=torch.float32, logits=torch.float32)
WIDE_DEVICES = ("cpu", "cuda")  # that have float64


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One evaluation that is to be judged.

    Attributes:
        operands: as the impl got them.
        cuts: of each operand, the dimension that runs over independent rows; None where all rows see it whole.
        result_cut: the same of the result; None where it is one number, a sum over rows.
        names: of the operands, for messages.
        written: the function in an arithmetic.
        flops: operations of the pass.
        at_once: numbers of each row that the function written out and its gradients have at once.
    """

    operands: Sequence[Tensor]
    cuts: tuple[int | None, ...]
    result_cut: int | None
    names: tuple[str, ...]
    written: Callable[[Arithmetic], Callable[..., Tensor]]
    flops: float
    at_once: float

    def blocks(self) -> Iterator[tuple[slice, Problem]]:
        """The problem by groups of rows."""
        pairs = list(zip(self.operands, self.cuts, strict=True))
        extent = next((t.shape[cut] for t, cut in pairs if cut is not None), 1)
        shared = sum(t.numel() for t, cut in pairs if cut is None and t.is_floating_point())
        step = blocks.step(extent, self.at_once, shared)
        for at in range(0, extent, step):
            own = slice(at, min(at + step, extent))
            yield own, replace(self, operands=[taken(t, cut, own) for t, cut in pairs])

    @property
    def found_cuts(self) -> list[int | None]:
        """As ``cuts``, of what comes out: the result, and the gradients of floating-point operands."""
        pairs = zip(self.operands, self.cuts, strict=True)
        return [self.result_cut, *(cut for t, cut in pairs if t.is_floating_point())]

    @property
    def found_names(self) -> list[str]:
        """Of what comes out."""
        pairs = zip(self.names, self.operands, strict=True)
        return ["result", *(f"gradient of {name}" for name, t in pairs if t.is_floating_point())]


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
    found = [None if result is None else result.detach(), *(gradients or ())]
    for name, tensor in zip(problem.found_names, found, strict=False):
        if tensor is not None and not _finite(tensor):
            return Accuracy(rel_err=float("nan"), bound=0.0, detail=f"NaN or infinity in {name}")
    wide = DOUBLE if problem.flops <= AFFORDABLE else SINGLE
    if wide is SINGLE and (lowered := _lowered(problem, backward)):
        return lowered
    noise = _noise(problem, precision, backward)
    truth = Evaluation(problem, wide, backward)
    given = {at: tensor for at, tensor in enumerate(found[: len(noise)]) if tensor is not None}
    errors = {at: Tally(problem.found_cuts[at] or 0) for at in given}
    for own, part in problem.blocks():
        with single.exact():
            blockwise = truth.block(own, part)
        while blockwise:
            at, tensor = blockwise.popitem()
            if at in given:
                errors[at].add(taken(given[at], problem.found_cuts[at], own), tensor)
    for at in truth.sums.keys() & given.keys():
        errors[at].add(given[at], truth.sums[at])
    names = problem.found_names
    results = []
    for at, tally in errors.items():
        floor = _floor(problem, precision, one_number=at == 0 and problem.result_cut is None)
        results.append(tally.judged(FACTOR * max(noise[at], floor), names[at]))
    return Accuracy.worst(results)


class Evaluation:
    """The function written out in one arithmetic, block by block.

    Args:
        problem: the whole.
        arithmetic: formats.
        backward: the gradient that flows in, or None.

    Attributes:
        sums: what is one for all blocks, so far: a result that is one number, and gradients of what all rows see. By
            position among what comes out.
    """

    def __init__(self, problem: Problem, arithmetic: Arithmetic, backward: Tensor | None) -> None:
        self._problem, self._arithmetic, self._backward = problem, arithmetic, backward
        self._function = problem.written(arithmetic)
        pairs = zip(problem.operands, problem.cuts, strict=True)
        self._shared = [self._leaf(t) if cut is None else None for t, cut in pairs]
        self.sums: dict[int, Tensor] = {}

    def block(self, own: slice, part: Problem) -> dict[int, Tensor]:
        """What comes out of the block alone, by position; the rest is added to the sums."""
        found, alone = self._evaluated(own, part), {}
        for at, cut in enumerate(self._problem.found_cuts[: len(found)]):
            if cut is None:
                self._add(at, found[at])
            else:
                alone[at] = found[at]
        return alone

    def _evaluated(self, own: slice, part: Problem) -> list[Tensor]:
        leaves = [self._leaf(t) if kept is None else kept for t, kept in zip(part.operands, self._shared, strict=True)]
        result = self._function(*leaves)
        if self._backward is None:
            return [result.detach()]
        differentiable = [t for t in leaves if t.requires_grad]
        flowing = taken(self._backward, self._problem.result_cut, own).to(result)
        return [result.detach(), *torch.autograd.grad(result, differentiable, flowing)]

    def _add(self, at: int, tensor: Tensor) -> None:
        if at in self.sums:
            self.sums[at] += tensor
        else:
            unrounded = self._arithmetic.compute == self._arithmetic.inside and tensor.device.type in WIDE_DEVICES
            self.sums[at] = tensor.to(torch.float64 if unrounded else self._arithmetic.inside, copy=True)

    def _leaf(self, tensor: Tensor) -> Tensor:
        """An operand in this arithmetic; on the host if its device has no float64."""
        tensor, compute = tensor.detach(), self._arithmetic.compute
        if compute == torch.float64 and tensor.device.type not in WIDE_DEVICES:
            tensor = tensor.cpu()
        if not tensor.is_floating_point():
            return tensor
        # The residual stream under autocast is wider than the arithmetic of what branches off it.
        return tensor.to(torch.promote_types(tensor.dtype, compute)).requires_grad_(self._backward is not None)


def taken(tensor: Tensor, cut: int | None, own: slice) -> Tensor:
    """The block of a tensor; the whole where it is not cut."""
    return tensor if cut is None else tensor.narrow(cut, own.start, own.stop - own.start)


def _finite(tensor: Tensor) -> bool:
    """Whether every element is a number, looked at in pieces: the look makes a copy."""
    pieces = tensor.detach().split(max(1, blocks.BLOCK * len(tensor) // tensor.numel())) if tensor.dim() else [tensor]
    return all(bool(piece.isfinite().all()) for piece in pieces)


def _noise(problem: Problem, precision: Precision, backward: Tensor | None) -> list[float]:
    """Relative errors that the policy's own formats make in what comes out, over the first rows."""
    exact, rounded = Evaluation(problem, DOUBLE, backward), Evaluation(problem, _own(precision), backward)
    cuts = problem.found_cuts if backward is not None else [problem.result_cut]
    tallies, seen = [Tally(cut or 0) for cut in cuts], 0
    for own, part in problem.blocks():
        true, near = exact.block(own, part), rounded.block(own, part)
        for at, tensor in true.items():
            tallies[at].add(near[at], tensor)
        seen += sum(t.numel() for t, cut in zip(part.operands, part.cuts, strict=True) if cut is not None)
        if seen >= PROBE:
            break
    compute = dtype(precision.activations)
    for at, tensor in exact.sums.items():
        found = rounded.sums[at]
        tallies[at].add(found.to(compute) if at else found, tensor)  # a gradient is rounded at last, a loss is not
    return [tally.error for tally in tallies]


def _floor(problem: Problem, precision: Precision, *, one_number: bool) -> float:
    narrow = precision.compute if problem.flops else precision.activations  # tf32 is in products only
    floor = FLOOR[narrow]
    if one_number:
        floor = FLOOR[narrow] * AVERAGED if problem.flops else FLOOR[precision.loss]
    return max(floor, FLOOR["fp32"])


def _own(precision: Precision) -> Arithmetic:
    return Arithmetic(compute=dtype(precision.activations), inside=torch.float32, logits=dtype(precision.logits))


def _lowered(problem: Problem, backward: Tensor | None) -> Accuracy | None:
    """A failure if float32 on this device is not single precision."""
    own, first = next(problem.blocks())
    sides = [Evaluation(problem, arithmetic, backward) for arithmetic in (SINGLE, DOUBLE)]
    with single.exact():
        near, true = (side.block(own, first) | side.sums for side in sides)
    for at, tensor in true.items():
        error = relative_error(near[at], tensor)
        if not error <= HONEST_FLOAT32:
            detail = f"the float32 reference errs in the {problem.found_names[at]}"
            return Accuracy(rel_err=error, bound=HONEST_FLOAT32, detail=detail)
    return None
