"""Linear layers in 8 bits with a mistake, as kernels of somebody else's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from perwatt_kernels import registry
from perwatt_kernels.registry import Kernel, Request

Through = Callable[[Tensor], Tensor]
LARGEST = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57344.0}


@contextmanager
def registered(*kernels: Kernel) -> Iterator[None]:
    """As if a distribution with these kernels was installed."""
    known = registry.kernels

    def found(operation: str) -> dict[str, Kernel]:
        return known(operation) | {one.impl: one for one in kernels if one.operation == operation}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "kernels", found)
        yield


class Quantizer:
    """A tensor through 8 bits and back, by one scale; subclasses do it wrongly."""

    def __init__(self, format: torch.dtype) -> None:
        self.format, self.largest = format, LARGEST[format]

    def scale(self, x: Tensor) -> Tensor:
        return x.abs().amax().float() / self.largest

    def __call__(self, x: Tensor) -> Tensor:
        scale = self.scale(x)
        return (x.float() / scale).clamp(-self.largest, self.largest).to(self.format).float() * scale


class Unscaled(Quantizer):
    """The scale is forgotten."""

    def scale(self, x: Tensor) -> Tensor:
        return torch.ones(())


class Stale(Quantizer):
    """The scale is that of the first call."""

    kept: Tensor | None = None

    def scale(self, x: Tensor) -> Tensor:
        self.kept = super().scale(x) if self.kept is None else self.kept
        return self.kept


class NotDivided(Quantizer):
    """What was divided by the scale is not multiplied by it again."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) / self.scale(x)


E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
FAULTS: dict[str, dict[str, Callable[[], Through]]] = {
    "no scale of gradients": {"g": lambda: Unscaled(E5M2)},
    "a stale scale of gradients": {"g": lambda: Stale(E5M2)},
    "no scale of activations": {"x": lambda: Unscaled(E4M3)},
    "no scale of weights": {"w": lambda: Unscaled(E4M3)},
    "a stale scale of activations": {"x": lambda: Stale(E4M3)},
    "scales left in the result": {"w": lambda: NotDivided(E4M3)},
    "gradients in the format of activations": {"g": lambda: Quantizer(E4M3)},
    "weights in the format of gradients": {"w": lambda: Quantizer(E5M2)},
}
HONEST: dict[str, Callable[[], Through]] = {
    "x": lambda: Quantizer(E4M3), "w": lambda: Quantizer(E4M3), "g": lambda: Quantizer(E5M2),
}  # fmt: skip


def planted(**wrong: Callable[[], Through]) -> Kernel:
    """The kernel ``planted`` of linear layers by ``fp8_tensor``, honest but for what is given."""

    def build(request: Request) -> Callable[..., Tensor]:
        through = {name: make() for name, make in {**HONEST, **wrong}.items()}

        class Layer(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
                ctx.save_for_backward(x, w)
                return (through["x"](x) @ through["w"](w).mT).to(x.dtype)

            @staticmethod
            def backward(ctx: Any, *flowing: Any) -> Any:
                (x, w), g = ctx.saved_tensors, through["g"](flowing[0])
                return (g @ through["w"](w)).to(x.dtype), (g.mT @ through["x"](x)).to(w.dtype)

        def linear(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
            found: Tensor = Layer.apply(x.flatten(0, -2), w)  # type: ignore[no-untyped-call]
            found = found.unflatten(0, x.shape[:-1])
            return found if bias is None else found + bias

        return linear

    return Kernel(operation="linear", impl="planted", impl_class="kernel", build=build)
