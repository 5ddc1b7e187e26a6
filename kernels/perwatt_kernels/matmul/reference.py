"""The product in float64, rounded once to the output format: what every other kernel is judged against."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perwatt_kernels.dtypes import dtype
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
    output, after, seen = dtype(request.output), request.params["epilogue"], dtype(request.compute)

    def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
        product = a.to(seen).double() @ b.to(seen).double()  # under autocast operands arrive in float32
        return epilogue(product, None if bias is None else bias.double(), after).to(output)

    return matmul


KERNELS = (
    Kernel(operation="matmul", impl="reference", impl_class="eager", build=_build, summary="float64, rounded once"),
)
