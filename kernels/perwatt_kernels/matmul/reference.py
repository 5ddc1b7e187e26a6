"""The product in float64, rounded once to the output format: what every other kernel is judged against."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.matmul.quantize import Scheme
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor


def epilogue(product: Tensor, bias: Tensor | None, name: str) -> Tensor:
    """What follows a product: bias [n] added, then the tanh form of GELU, as ``name`` says."""
    from torch.nn import functional as F

    if bias is not None:
        product = product + bias
    return F.gelu(product, approximate="tanh") if name.endswith("gelu_tanh") else product


def _build(request: Request) -> Callable[..., Tensor]:
    output, after, scheme = dtype(request.output), request.params["epilogue"], Scheme.of(request)

    def matmul(*operands: Tensor) -> Tensor:
        a, b = scheme.seen(operands)
        bias = operands[scheme.count].double() if len(operands) > scheme.count else None
        return epilogue(a.double() @ b.double(), bias, after).to(output)

    return matmul


def _unsupported(request: Request) -> str | None:
    if request.scaling != "none" and request.gradients:
        return "the reference of 8-bit products has no backward pass"
    return None


KERNELS = (
    Kernel(
        operation="matmul",
        impl="reference",
        impl_class="eager",
        build=_build,
        unsupported=_unsupported,
        summary="float64, rounded once",
    ),
)
