"""The implementation ``auto`` of an operation: the fastest of those that are there, by measurement.

Candidates are all implementations that take the request, but for the reference, interpreters and those that are said to
choose themselves. They are measured once for each question (:mod:`perwatt_kernels.choices`): the request, the device,
the versions of libraries, the sources of perwatt's kernels. One that fails, or gives something else than the
framework's path, is passed over with a warning, and the row says so.

On Neuron every candidate compiles for minutes, so there nothing is measured unasked: the answer that is kept decides,
and where there is none a kernel of perwatt's is taken, else the framework's path; the row says which and that nothing
was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from perwatt_kernels import registry
from perwatt_kernels.choices import measure, sources, store
from perwatt_kernels.choices.answer import Answer
from perwatt_kernels.choices.question import Question, versions
from perwatt_kernels.registry import Chosen, Kernel, Request

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Samples = Callable[[Request, torch.device], tuple[list[Tensor], Tensor]]

FIELDS = ("compute", "output", "gradients", "backward", "scaling", "quantize", "fast_accumulation", "threads")
"""Of a request, what a choice depends on beside its parameters."""
LEFT_OUT = ("auto", "reference")
COMPILED, AUTOTUNED = "torch.compile", "torch.compile-autotuned"
DIFFERENCE = {"fp32": 1e-3, "tf32": 5e-3, "bf16": 5e-2, "fp16": 1e-2}
"""Relative Frobenius difference from the framework's path above which a candidate computes something else. The gate
judges what is taken; this only keeps a fast wrong one from being taken."""
ROOM = 0.5  # share of the device's memory that a candidate may take for itself: trying more could end the process
NARROW_DIFFERENCE = 0.2  # of 8-bit operands, which libraries quantize each in its own way


def automatic(operation: str, own: str, framework: str, samples: Samples) -> Kernel:
    """The kernel ``auto`` of an operation.

    Args:
        operation: name in the registry.
        own: implementation that is taken on Neuron where nothing was measured.
        framework: the one that is taken where that refuses, and that others have to agree with.
        samples: makes operands for a request, and what flows into its backward pass.
    """
    choose = partial(_choose, operation, own, framework, samples)

    def build(request: Request) -> Callable[..., Any]:
        return built(_named(operation, choose(request).impl), request)

    def unsupported(request: Request) -> str | None:
        if _candidates(operation, request):
            return None
        return registry.kernels(operation)[framework].refusal(request)

    return Kernel(
        operation=operation, impl="auto", impl_class="kernel", build=build, unsupported=unsupported, choose=choose,
        summary="the fastest of these here, by measurement",
    )  # fmt: skip


def _candidates(operation: str, request: Request) -> dict[str, Kernel]:
    """Implementations that take a request, by name; those of the compiler also with kernels of its choice."""
    found = {}
    for name, kernel in registry.kernels(operation).items():
        if name in LEFT_OUT or kernel.choose is not None or kernel.emulated() or kernel.refusal(request):
            continue
        if kernel.extra_bytes(request) > ROOM * request.memory_bytes:
            continue
        found[name] = kernel
        if name == COMPILED and request.tunable:
            found[AUTOTUNED] = _named(operation, AUTOTUNED)
    return found


def _named(operation: str, impl: str) -> Kernel:
    kernels = registry.kernels(operation)
    return replace(kernels[COMPILED], impl=AUTOTUNED) if impl == AUTOTUNED else kernels[impl]


def built(kernel: Kernel, request: Request) -> Callable[..., Any]:
    """The callable of a candidate, which may be called by the name of a variant."""
    if kernel.impl == AUTOTUNED:
        request = replace(request, compile=partial(request.compile, autotune=True))
    return kernel.build(request)


def _choose(operation: str, own: str, framework: str, samples: Samples, request: Request) -> Chosen:
    candidates = _candidates(operation, request)
    question = question_of(operation, request)
    if request.time is None:
        kept = store.look(question)
        if kept is None or not kept.covers(candidates):
            return _by_rule(operation, own, framework, request)
        answer = kept
    else:
        makers = {name: partial(_call, kernel, request, samples) for name, kernel in _first(candidates, framework)}
        patience_s = measure.PATIENCE_S if request.device == "cuda" else None
        answer = measure.chosen(question, makers, request.time, _Agreement(framework, request), patience_s)
    return _told(answer, candidates[answer.chosen], framework)


def _first(candidates: dict[str, Kernel], framework: str) -> list[tuple[str, Kernel]]:
    """Candidates, the one that others have to agree with first."""
    return sorted(candidates.items(), key=lambda item: item[0] != framework)


def question_of(operation: str, request: Request) -> Question:
    """What a choice among implementations of an operation holds for."""
    shape: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in request.params.items()
    }
    shape |= {name: getattr(request, name) for name in FIELDS}
    modules = {kernel.distribution for kernel in registry.kernels(operation).values() if kernel.distribution}
    return Question(
        about=operation, shape=shape, device=request.chip or request.device,
        versions=versions(tuple(sorted(modules))) | sources.of_operation(operation),
    )  # fmt: skip


def _by_rule(operation: str, own: str, framework: str, request: Request) -> Chosen:
    """A kernel of perwatt's where it takes the request, else the framework's path."""
    found = registry.kernels(operation)
    reason = found[own].refusal(request) if own in found else f"there is no kernel of {operation} by it"
    if reason is None:
        try:
            found[own].build(request)
        except NotImplementedError as error:
            reason = str(error)
    if reason is None:
        return Chosen(impl=own, impl_class=found[own].impl_class, why=f"{own}, by rule", flags=("unmeasured_choice",))
    return Chosen(
        impl=framework, impl_class=found[framework].impl_class, why=f"{framework}, as {own} refuses: {reason}",
        flags=("framework_path", "unmeasured_choice"),
    )  # fmt: skip


def _told(answer: Answer, kernel: Kernel, framework: str) -> Chosen:
    """A choice in words: what was taken, how much faster than the next, and what failed."""
    others = sorted(seconds for name, seconds in answer.seconds.items() if name != answer.chosen)
    why = f"{answer.chosen}, the only one that works here"
    if others:
        lead = others[0] / answer.seconds[answer.chosen]
        why = f"{answer.chosen}, fastest of {len(others) + 1} by {lead:.2f}, {answer.origin}"
    if answer.failed:
        why += "; failed: " + ", ".join(f"{name} ({reason})" for name, reason in sorted(answer.failed.items()))
    flags = ("framework_path",) if kernel.impl_class != "kernel" else ()
    return Chosen(
        impl=answer.chosen, impl_class=kernel.impl_class, why=why,
        flags=flags + (("auto_skipped",) if answer.failed else ()),
    )  # fmt: skip


def _call(kernel: Kernel, request: Request, samples: Samples) -> measure.Call:
    """One call of a candidate on operands of its own, with its backward pass where gradients are wanted."""
    import torch

    function = built(kernel, request)
    operands, incoming = samples(request, request.on())
    if not request.gradients:
        return lambda: (function(*operands),)
    leaves = [one.detach().requires_grad_() for one in operands]

    def both() -> object:
        result = function(*leaves)
        return (result.detach(), *torch.autograd.grad(result, leaves, incoming))

    return both


class _Agreement:
    """Whether results are those of the framework's path."""

    def __init__(self, framework: str, request: Request) -> None:
        self._framework = framework
        self._expected: tuple[Any, ...] | None = None
        narrow = request.scaling != "none"
        self._limit = NARROW_DIFFERENCE if narrow else DIFFERENCE.get(request.compute, max(DIFFERENCE.values()))

    def __call__(self, name: str, result: Any) -> str | None:
        if name == self._framework:
            self._expected = result
        if self._expected is None or name == self._framework:
            return None
        for found, expected in zip(result, self._expected, strict=True):
            away = (found.double() - expected.double()).norm() / expected.double().norm()
            if not away <= self._limit:  # NaN is no agreement
                return f"its result is {float(away):.1e} away from that of {self._framework}"
        return None
