"""The linear layer in float64, each result rounded once: what every other kernel is judged against.

With scales every product quantizes its operands by the written-out rule, those of the backward pass, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.linear.scaled_impl import product_of
from perwatt_kernels.matmul.quantize import Scheme
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor


def quantized(request: Request) -> Callable[[Tensor, Tensor], Tensor]:
    """The layer without bias as its operands are quantized: ``linear(x, w)`` of [..., k] and [n, k], in x's format.

    Sums are float64's. Gradients have the formats of what they are of.

    Args:
        request: of a linear layer with scales.
    """
    import torch

    product = product_of(request)
    own, (to_x, to_w) = Scheme.of(product), Scheme.of_gradients(product)

    def times(scheme: Scheme, a: Tensor, b: Tensor) -> Tensor:
        left, right = scheme.seen((a, b))
        return left.double() @ right.double()

    class Quantized(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
            ctx.save_for_backward(x, w)
            return times(own, x, w.mT).to(x.dtype)

        @staticmethod
        def backward(ctx: Any, *flowing: Any) -> tuple[Tensor, Tensor]:
            x, w = ctx.saved_tensors
            (incoming,) = flowing
            return times(to_x, incoming, w).to(x.dtype), times(to_w, x.mT, incoming).mT.to(w.dtype)

    def linear(x: Tensor, w: Tensor) -> Tensor:
        found: Tensor = Quantized.apply(x.reshape(-1, x.shape[-1]), w)  # type: ignore[no-untyped-call]
        return found.view(*x.shape[:-1], w.shape[0])

    return linear


def _build(request: Request) -> Callable[..., Tensor]:
    output = dtype(request.output)
    multiply = quantized(request) if request.scaling != "none" else lambda x, w: x @ w.mT

    def linear(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        result = multiply(x.double(), w.double())
        return (result if bias is None else result + bias.double()).to(output)

    return linear


KERNELS = (
    Kernel(
        operation="linear",
        impl="reference",
        impl_class="eager",
        build=_build,
        summary="float64, rounded once",
    ),
)
