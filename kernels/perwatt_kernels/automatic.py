"""The implementation ``auto`` of an operation: a kernel of perwatt's where it takes the request, else the framework's.

What a kernel refuses it refuses before anything is launched, so falling back costs nothing; one that fails on the
device is a failure, not a reason to take another. Kernels are for Neuron devices: elsewhere the framework's path is
taken, as nothing measured says that another is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perwatt_kernels import registry
from perwatt_kernels.registry import Kernel, Request


def automatic(operation: str, own: str, framework: str) -> Kernel:
    """The kernel ``auto`` of an operation; where it falls back, what runs is of class ``eager``, and rows say so.

    Args:
        operation: name in the registry.
        own: implementation that is taken where it can be.
        framework: the one that is taken elsewhere.
    """

    def refused(request: Request) -> str | None:
        return registry.kernels(operation)[own].unsupported(request)

    def built(request: Request) -> tuple[Callable[..., Any], str]:
        found = registry.kernels(operation)
        reason = refused(request)
        if reason is None:
            try:
                return found[own].build(request), ""
            except NotImplementedError as error:
                reason = str(error)
        return found[framework].build(request), f"{framework}, as {own} refuses: {reason}"

    def unsupported(request: Request) -> str | None:
        return None if refused(request) is None else registry.kernels(operation)[framework].unsupported(request)

    return Kernel(
        operation=operation, impl="auto", impl_class="kernel", unsupported=unsupported,
        build=lambda request: built(request)[0], fallback=lambda request: built(request)[1],
        summary=f"{own} where it takes the case on a Neuron device, else {framework}",
    )  # fmt: skip
