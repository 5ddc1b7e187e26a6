"""Linear layers in 8 bits: the products of :mod:`perwatt_kernels.matmul.scaled_impl`, as a layer has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from perwatt_kernels.matmul import scaled_impl
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

    Product = Callable[..., Tensor]


def product_of(request: Request) -> Request:
    """A linear layer as the product of ``x`` [m, k] and ``w^T`` [k, n], which its backward pass belongs to.

    Args:
        request: of a linear layer.
    """
    own = {"product": "fwd", "batch": 1, "epilogue": "none", "a_layout": None, "b_layout": None}
    return replace(request, params={**{name: request.params[name] for name in "mnk"}, **own})


def scaled(request: Request) -> Callable[..., Tensor]:
    """``torch._scaled_mm``, thrice.

    Raises:
        NotImplementedError: this torch has none for such operands on the device.
    """
    return layer(scaled_impl.scaled(product_of(request)))


def layer(product: Product) -> Callable[..., Tensor]:
    """A linear layer by a product of matrices."""

    def linear(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        return product(x.reshape(-1, x.shape[-1]), w.mT, bias).view(*x.shape[:-1], w.shape[0])

    return linear


def unsupported(request: Request) -> str | None:
    """What no linear layer in 8 bits here can do."""
    if request.quantize == "outside":
        return "a linear layer quantizes its operands itself: use a policy that quantizes inside"
    return scaled_impl.unsupported(product_of(request))


def unsupported_by_scaled(request: Request) -> str | None:
    """What ``torch._scaled_mm`` cannot do besides."""
    return unsupported(request) or scaled_impl.unsupported_by_scaled(product_of(request))


def _dequantize(request: Request) -> Callable[..., Tensor]:
    return layer(scaled_impl.dequantized(product_of(request)))


def _unsupported(request: Request) -> str | None:
    return unsupported(request) if request.scaling != "none" else f"operands in {request.compute} have no scales"


KERNELS = (
    Kernel(operation="linear", impl="dequantize", impl_class="eager", build=_dequantize, unsupported=_unsupported,
           summary="stores operands in 8 bits, multiplies them in float32"),
)  # fmt: skip
