"""Kernels of ``perwatt_kernels`` as implementations of a workload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from perwatt.workloads import autocast
from perwatt.workloads.base import Impl
from perwatt.workloads.compiled import compiled
from perwatt.workloads.variants import captured
from perwatt_kernels import registry

if TYPE_CHECKING:
    from perwatt.backends.base import Backend
    from perwatt.spec.case import Case


NONE: Mapping[str, registry.Kernel] = {}


def impls(
    operation: str, output: Callable[[Case], str], others: Mapping[str, registry.Kernel] = NONE
) -> dict[str, Impl]:
    """Every kernel of an operation as an :class:`Impl`, and what follows from these.

    Args:
        operation: name in the kernel registry.
        output: format of the result of a case.
        others: kernels by name that the operation has besides.
    """
    found = {**registry.kernels(operation), **others}
    return captured({name: _impl(kernel, output) for name, kernel in found.items()})


def request_of(case: Case, backend: Backend, output: str) -> registry.Request:
    """What a case asks of a kernel; ``output`` is the format of its result."""
    precision, device = case.precision, backend.describe()
    return registry.Request(
        device=backend.name, compute=precision.compute, output=output, gradients=case.grad,
        params=case.params.model_dump(), compile=partial(compiled, backend=backend), backward=precision.backward,
        scaling=precision.scaling, quantize=precision.quantize, fast_accumulation=precision.fast_accumulation,
        chip=device.chip, threads=device.threads, memory_bytes=device.memory_bytes, capability=backend.capability,
        uncompilable=backend.uncompilable,
        tunable=backend.untunable() is None, on=lambda: backend.device,
        time=None if backend.keeps_compiled else lambda call, count: _seconds(backend, call, count),
    )  # fmt: skip


def _seconds(backend: Backend, call: Callable[[], object], count: int) -> float:
    """Of so many calls on the device, results thrown away."""
    return backend.time(lambda slot: call(), count, 0, [None]).total_s


def _impl(kernel: registry.Kernel, output: Callable[[Case], str]) -> Impl:
    def request(case: Case, backend: Backend) -> registry.Request:
        return request_of(case, backend, output(case))

    def unsupported(case: Case, backend: Backend) -> str | None:
        return kernel.refusal(request(case, backend))

    def build(case: Case, backend: Backend) -> Callable[..., Any]:
        return autocast.cast(kernel.build(request(case, backend)), case.precision, backend)

    def chosen(case: Case, backend: Backend) -> registry.Chosen | None:
        return None if kernel.choose is None else kernel.choose(request(case, backend))

    return Impl(
        name=kernel.impl, impl_class=kernel.impl_class, build=build, unsupported=unsupported, summary=kernel.summary,
        chosen=chosen, flags=("emulated",) if kernel.emulated() else (),
    )  # fmt: skip
