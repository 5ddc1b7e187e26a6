"""Which implementations exist for an operation. A kernel is one file, found by a scan of this package.

A kernel module defines ``KERNELS``, a tuple of :class:`Kernel`, and imports its framework inside ``build``, so that
listing kernels needs none. Other distributions add theirs through the entry point ``perwatt.kernels``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from perwatt import plugins


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a kernel is asked to do.

    Attributes:
        device: torch device type (``cpu``, ``cuda``, ``neuron``).
        compute: format that the operands are multiplied in (``fp32``, ``bf16``, ...).
        output: format of the result.
        gradients: whether a backward pass follows.
        params: the operation's own parameters.
        compile: the backend's ``torch.compile``.
        backward: format that gradients are multiplied in, where it is another.
        scaling: granularity of the scales of quantized operands: ``none``, ``tensor``, ``row``, ``block32``.
        quantize: whether operands are quantized ``inside`` or arrive so from ``outside``; empty without scales.
        fast_accumulation: whether partial sums may be as short as the device's fast mode has them.
    """

    device: str
    compute: str
    output: str
    gradients: bool
    params: Mapping[str, Any]
    compile: Callable[[Callable[..., Any]], Callable[..., Any]]
    backward: str = ""
    scaling: str = "none"
    quantize: str = ""
    fast_accumulation: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """One implementation of one operation.

    Attributes:
        operation: ``matmul``, ``attention``; its package's docstring says what ``build`` returns.
        impl: name of the implementation, as suites spell it.
        impl_class: ``eager``, ``graph`` (compiled as a whole) or ``kernel`` (a kernel of its own).
        build: makes the callable for a request.
        unsupported: why a request cannot be done, or None.
        fallback: of one that chooses among others, what of the framework's it takes for a request and why; empty where
            it takes a kernel of perwatt's, and of all others.
    """

    operation: str
    impl: str
    impl_class: str
    build: Callable[[Request], Callable[..., Any]]
    unsupported: Callable[[Request], str | None] = lambda request: None
    summary: str = ""
    fallback: Callable[[Request], str] = lambda request: ""

    @property
    def name(self) -> str:
        """Unique name among all kernels."""
        return f"{self.operation}/{self.impl}"


def kernels(operation: str) -> dict[str, Kernel]:
    """Implementations of an operation by the name suites use."""
    found = plugins.find("perwatt_kernels", "KERNELS", "perwatt.kernels")
    return {kernel.impl: kernel for kernel in found.values() if kernel.operation == operation}
