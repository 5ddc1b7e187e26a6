"""Implementations of a training step: how it is run, and after ``+`` the kernels it takes by name.

``BASE+NAME`` takes the implementation NAME of each operation that has one of that name: ``attention`` and ``linear`` of
:mod:`perwatt_kernels`, and ``loss``, of which there is ``chunked``. The others are the framework's. Several names may
follow; where two of them have the same operation, the later one has it. There are too many to list, so one is made when
it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from perwatt.workloads import step_kernels
from perwatt.workloads.base import Impl
from perwatt_kernels import registry
from perwatt_kernels.registry import Chosen, Kernel

if TYPE_CHECKING:
    from perwatt.backends.base import Backend
    from perwatt.models.chunked_loss import Differentiate
    from perwatt.models.kernels import Kernels
    from perwatt.spec.case import Case
    from perwatt.workloads.train_params import TrainStepParams

LOSS, CHUNKED = "loss", "chunked"
WITHOUT = ("reference", "torch", "torch.compile")  # what judges, and what the bases are called

Transform = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How an impl does a case on a backend.

    Attributes:
        build: makes the impl's version of a function.
        kernels: makes those of a model, for what one device does.
        chunks: what becomes of a chunk's logits; None where the loss has all of them.
        names: what was taken by operation, for the row.
    """

    build: Transform
    kernels: Callable[[TrainStepParams], Kernels]
    chunks: Differentiate | None
    names: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What an impl takes: a base, kernels by operation, and the loss in chunks or whole."""

    base: str
    kernels: Mapping[str, Kernel]
    chunked: bool

    def with_scales(self, case: Case) -> Mapping[str, Kernel]:
        """Kernels by operation, with those that a policy needs whose linear layers are in 8 bits."""
        scaled = case.precision.scaling != "none" and "linear" not in self.kernels
        return {**self.kernels, "linear": registry.kernels("linear")["torch"]} if scaled else self.kernels


class StepImpls(Mapping[str, Impl]):
    """Implementations by name: bases and, made when asked for, what follows from them.

    Iterating gives the bases, and the eager one with each name.

    Args:
        bases: by name; ``build`` makes a :data:`Transform`. The first is the eager one.
    """

    def __init__(self, bases: Mapping[str, Impl]) -> None:
        self._bases = bases

    def __getitem__(self, name: str) -> Impl:
        plan = self.plan(name)
        if plan is None:
            raise KeyError(name)
        return _impl(name, plan, self._bases[plan.base])

    def __iter__(self) -> Iterator[str]:
        yield from self._bases
        eager = next(iter(self._bases))
        yield from (f"{eager}+{name}" for name in _names())

    def __len__(self) -> int:
        return len(self._bases) + len(_names())

    def plan(self, name: str) -> Plan | None:
        """What an impl of this name takes; None where there is none, or it names something that nothing takes."""
        base, *names = name.split("+")
        if base not in self._bases:
            return None
        known = _names()
        taken = {operation: own for own in names if own in known for operation in known[own]}
        if sorted(set(taken.values())) != sorted(names):
            return None
        found = {operation: registry.kernels(operation)[own] for operation, own in taken.items() if operation != LOSS}
        return Plan(base=base, kernels=found, chunked=LOSS in taken)

    def near(self, name: str) -> list[str]:
        """Names that may have been meant by one that is none: with another name in place of the first that is wrong."""
        parts = name.split("+")
        right = next((count for count in range(len(parts), 0, -1) if "+".join(parts[:count]) in self), 0)
        if not right:
            return list(self)
        head = "+".join(parts[:right])
        return [f"{head}+{own}" for own in _names() if f"{head}+{own}" in self]


def _names() -> dict[str, tuple[str, ...]]:
    """Names that may follow a base, with the operations that have one."""
    found: dict[str, tuple[str, ...]] = {}
    for operation in step_kernels.OPERATIONS:
        for name in registry.kernels(operation):
            if name not in WITHOUT:
                found[name] = (*found.get(name, ()), operation)
    return {**found, CHUNKED: (*found.get(CHUNKED, ()), LOSS)}


def _impl(name: str, plan: Plan, base: Impl) -> Impl:
    words = [f"{operation} by {kernel.impl}" for operation, kernel in plan.kernels.items()]
    words += ["loss in chunks"] if plan.chunked else []
    emulated = any(kernel.emulated for kernel in plan.kernels.values())
    return replace(
        base, name=name, build=partial(_build, plan, base), unsupported=partial(_unsupported, plan, base),
        chosen=partial(_chosen, plan, base), summary=", ".join([plan.base, *words]) if words else base.summary,
        flags=("emulated",) if emulated else (),
    )  # fmt: skip


def _build(plan: Plan, base: Impl, case: Case, backend: Backend) -> Way:
    from perwatt.models import chunked_loss

    build, taken = base.build(case, backend), plan.with_scales(case)
    chunks = None
    if plan.chunked:
        chunks = chunked_loss.in_pieces if base.impl_class == "eager" else build(chunked_loss.at_once)
    names = {operation: _named(operation, kernel, case, backend) for operation, kernel in taken.items()}
    return Way(
        build=build, kernels=step_kernels.functions(taken, case, backend), chunks=chunks,
        names={**names, LOSS: CHUNKED} if plan.chunked else names,
    )  # fmt: skip


def _named(operation: str, kernel: Kernel, case: Case, backend: Backend) -> str:
    """Names of the kernels that compute, each once."""
    found = step_kernels.settled(operation, kernel, case, backend).values()
    return ",".join(dict.fromkeys(one.impl for one in found))


def _unsupported(plan: Plan, base: Impl, case: Case, backend: Backend) -> str | None:
    if reason := base.unsupported(case, backend):
        return reason
    for operation, kernel in plan.with_scales(case).items():
        if reason := step_kernels.refusal(operation, kernel, case, backend):
            return reason
    return _unchunkable(case, backend) if plan.chunked else None


def _unchunkable(case: Case, backend: Backend) -> str | None:
    """What a loss in chunks cannot do yet."""
    shape, logits = case.params.shape, case.params.logits  # type: ignore[attr-defined]
    if case.mode == "shard" and (backend.world_of(case.placement) or 1) > 1:
        return f"a loss in chunks is not there yet for parallel {case.parallel}: its projection lies outside the model"
    if shape.head_bias or shape.logit_softcap:
        what = "a bias of the output projection" if shape.head_bias else "soft caps of logits"
        return f"a loss in chunks with {what} is not there yet"
    if logits not in ("policy", case.precision.activations):
        return f"a loss in chunks has its logits in the format of products, {case.precision.activations}, not {logits}"
    return None


def _chosen(plan: Plan, base: Impl, case: Case, backend: Backend) -> Chosen | None:
    """All choices of a step in one, each once, in words by operation and place."""
    found = {
        f"{operation} {place}": choice
        for operation, kernel in plan.kernels.items()
        for place, choice in step_kernels.chosen(operation, kernel, case, backend).items()
    }
    if not found:
        return None
    flags = dict.fromkeys(flag for choice in found.values() for flag in choice.flags)
    return Chosen(
        impl="+".join(dict.fromkeys(choice.impl for choice in found.values())), impl_class=base.impl_class,
        why="; ".join(f"{place}: {choice.why}" for place, choice in found.items()), flags=tuple(flags),
    )  # fmt: skip
