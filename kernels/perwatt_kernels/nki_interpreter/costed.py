"""Kernels whose cost can be asked for, found by a scan: a module defines ``COSTED``, one or a tuple of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from perwatt import plugins
from perwatt_kernels.nki_interpreter.hardware import Generation

Sizes = Mapping[str, int]
MOST = 2_500_000  # instructions of the tensor engine; at a fifth of a millisecond each the model takes ten minutes


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
        instructions: of the tensor engine, about; what a model that looks at each of them takes its time for.
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
    instructions: Callable[[Sizes], int]
    params: Mapping[str, Any] = field(default_factory=dict)
    rate: int = 1
    pass_: str = "fwd"

    @property
    def name(self) -> str:
        """Unique name among all kernels."""
        return f"{self.operation}/{self.impl}"

    def too_large(self, sizes: Sizes) -> str | None:
        """Why sizes are too many instructions to look at, with the nearest that are not; None if they are not."""
        count = self.instructions(sizes)
        if count <= MOST:
            return None
        least, beyond = 1, max(sizes.values())  # no extent may be longer than a number between them
        while beyond - least > 1:
            middle = (least + beyond) // 2
            fits = self.instructions(_shortened(sizes, middle)) <= MOST
            least, beyond = (middle, beyond) if fits else (least, middle)
        nearest = "x".join(map(str, _shortened(sizes, least).values()))
        return f"found some {count:.2g} instructions of the tensor engine, expected at most {MOST:,}; nearest {nearest}"


def _shortened(sizes: Sizes, most: int) -> Sizes:
    return {name: min(size, most) for name, size in sizes.items()}


def costed() -> dict[str, Costed]:
    """Kernels by name."""
    return plugins.find("perwatt_kernels", "COSTED", "perwatt.costed")
