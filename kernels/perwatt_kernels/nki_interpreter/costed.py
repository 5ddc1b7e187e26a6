"""Kernels whose cost can be asked for, found by a scan: a module defines ``COSTED``, one or a tuple of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from perwatt import plugins
from perwatt_kernels.nki_interpreter.hardware import Generation

Sizes = Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Costed:
    """One NKI kernel.

    Attributes:
        operation: ``matmul``, ``attention``.
        impl: name among the kernels of that operation.
        workload: of the row that its cost makes.
        extents: names of the sizes of a shape, in order.
        formats: operands that it takes, by precision policies' names, as NKI calls them.
        build: the kernel, launched on so many cores, and specs of its arguments, from sizes, format and cores.
        unsupported: why sizes cannot be done on a generation with elements of so many bytes, and what can; None if
            they can.
        useful: multiply-adds that the operation has.
        compulsory: bytes that it has to move, each operand and result once, from sizes and bytes of an element.
        params: further parameters of the workload.
        rate: at how many times its rate for 16-bit operands the tensor engine multiplies these.
        pass_: of the workload.
    """

    operation: str
    impl: str
    workload: str
    extents: tuple[str, ...]
    formats: Mapping[str, str]
    build: Callable[[Sizes, str, int], tuple[Any, tuple[Any, ...]]]
    unsupported: Callable[[Sizes, Generation, int], str | None]
    useful: Callable[[Sizes], int]
    compulsory: Callable[[Sizes, int], int]
    params: Mapping[str, Any] = field(default_factory=dict)
    rate: int = 1
    pass_: str = "fwd"

    @property
    def name(self) -> str:
        """Unique name among all kernels."""
        return f"{self.operation}/{self.impl}"


def costed() -> dict[str, Costed]:
    """Kernels by name."""
    return plugins.find("perwatt_kernels", "COSTED", "perwatt.costed")
