"""Linear layers in Triton: three launches of the product, of which two read operands as views and transpose nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from perwatt_kernels import triton_site
from perwatt_kernels.dtypes import dtype
from perwatt_kernels.linear.operands import check
from perwatt_kernels.matmul.triton_impl import FORMATS, scaled, unsupported
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from perwatt_kernels.matmul.product_ops import Operations

SOURCES = ("bf16", "fp16", "fp32")  # formats that operands arrive in where they are quantized inside


def from_outside(request: Request) -> str | None:
    """Why operands that arrive in 8 bits are none of a linear layer."""
    if request.quantize == "outside":
        return "operands of linear layers arrive in 16 bits or more, here in 8: use operation matmul"
    return None


def _unsupported(request: Request) -> str | None:
    return from_outside(request) or unsupported(request)


def _build(request: Request) -> Callable[..., Tensor]:
    from perwatt_kernels.matmul.triton_ops import OPERATIONS

    return built(request, OPERATIONS)


def built(request: Request, operations: Operations) -> Callable[..., Tensor]:
    """The layer that is asked for.

    Args:
        request: of a linear layer.
        operations: what makes products.
    """
    multiply, formats = _product(request, operations)

    def linear(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        check(x, w, bias, *formats)
        result = multiply(x.reshape(-1, x.shape[-1]) if x.dim() != 2 else x, w.mT, bias)
        return result if x.dim() == 2 else result.reshape(*x.shape[:-1], w.shape[0])

    return linear


def _product(
    request: Request, operations: Operations
) -> tuple[Callable[..., Tensor], tuple[torch.dtype, ...]]:  # fmt: skip
    """The product of a layer, and the formats that its operands may have."""
    if request.scaling != "none":
        params = {**request.params, "product": "fwd", "epilogue": "none"}  # a bias is added where one is given
        return scaled(replace(request, params=params), operations), tuple(map(dtype, SOURCES))
    output, compute = dtype(request.output), request.compute
    return lambda a, b, bias: operations.times(a, b, bias, output, compute, "none"), (dtype(compute),)


KERNELS = (
    Kernel(operation="linear", impl="triton", impl_class="kernel", build=_build, unsupported=_unsupported,
           formats=FORMATS, summary="perwatt's product in Triton, forward and both gradients",
           **triton_site.declared()),
)  # fmt: skip
