"""Implementations that follow from others: with kernels of the compiler's choice, and as graphs of the device.

``torch.compile-autotuned`` is made of every ``torch.compile``, and ``NAME+graph`` of every implementation of one
operation: the same calls in a row, captured once and played back, so that the host launches one thing and not each
kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from perwatt.workloads.base import Impl

if TYPE_CHECKING:
    from perwatt.backends.base import Backend
    from perwatt.spec.case import Case

COMPILED, AUTOTUNED, GRAPH = "torch.compile", "-autotuned", "+graph"


def plain(name: str) -> str:
    """The name of the implementation that another one is made of; its own where it is none of these."""
    return name.removesuffix(GRAPH).removesuffix(AUTOTUNED)


def autotuned(impls: Mapping[str, Impl]) -> dict[str, Impl]:
    """Implementations, and right after ``torch.compile`` the same with autotuning."""
    found: dict[str, Impl] = {}
    for name, impl in impls.items():
        found[name] = impl
        if name == COMPILED:
            found[COMPILED + AUTOTUNED] = _autotuned(impl)
    return found


def captured(impls: Mapping[str, Impl]) -> dict[str, Impl]:
    """Implementations of an operation with those that :func:`autotuned` adds, and after them each as a graph.

    May be given what it gave before with more implementations added.
    """
    own = autotuned({name: impl for name, impl in impls.items() if not impl.captured})
    return own | {name + GRAPH: _captured(impl) for name, impl in own.items()}


class _Autotuning:
    """A backend whose ``torch.compile`` always tries several kernels."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def compile(self, function: Callable[..., Any], *, autotune: bool = True) -> Callable[..., Any]:
        return self._backend.compile(function, autotune=True)


def _autotuned(impl: Impl) -> Impl:
    def build(case: Case, backend: Backend) -> Any:
        return impl.build(case, cast("Backend", _Autotuning(backend)))

    def unsupported(case: Case, backend: Backend) -> str | None:
        return impl.unsupported(case, backend) or backend.untunable()

    return replace(
        impl, name=COMPILED + AUTOTUNED, build=build, unsupported=unsupported,
        summary="the same with the fastest of several kernels for each product",
    )  # fmt: skip


def _captured(impl: Impl) -> Impl:
    return replace(
        impl, name=impl.name + GRAPH, impl_class="graph", captured=True, unsupported=partial(_uncapturable, impl),
        summary=f"{impl.name}, captured once and played back",
    )  # fmt: skip


def _uncapturable(impl: Impl, case: Case, backend: Backend) -> str | None:
    if reason := backend.uncapturable():
        return reason
    if case.pass_ == "bwd":
        return "a graph holds a whole pass: use fwd or fwd+bwd"
    if case.pass_ == "fwd" and case.grad:
        return "a graph holds a whole pass, and a forward that saves for a backward is half of one: use fwd+bwd"
    if getattr(case.params, "dropout", 0.0):
        return "a graph with dropout is not there yet: what it drew at capture has to be drawn anew at each playback"
    return impl.unsupported(case, backend)
