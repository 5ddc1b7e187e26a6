"""The framework's own product (MKL or oneDNN on CPU, cuBLAS on CUDA), called directly or through torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.matmul import scaled_impl
from perwatt_kernels.matmul.reference import epilogue
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

_BITS = {"fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16}


def widening(request: Request) -> str | None:
    """Why torch has no product of 16-bit operands with a wider result."""
    if _BITS.get(request.output, 32) > _BITS[request.compute]:
        return f"torch has no product of {request.compute} operands with {request.output} output on {request.device}"
    return None


def _unsupported(request: Request) -> str | None:
    return scaled_impl.unsupported_by_scaled(request) if request.scaling != "none" else widening(request)


def _eager(request: Request) -> Callable[..., Tensor]:
    import torch

    if request.scaling != "none":
        return scaled_impl.scaled(request)
    output, after = dtype(request.output), request.params["epilogue"]
    if output == dtype(request.compute) and after == "none":
        return torch.matmul

    def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
        return epilogue(a @ b, bias, after).to(output)

    return matmul


def _compiled(request: Request) -> Callable[..., Tensor]:
    return request.compile(_eager(request))


KERNELS = (
    Kernel(operation="matmul", impl="torch", impl_class="eager", build=_eager, unsupported=_unsupported,
           summary="torch.matmul, eager; with scales torch._scaled_mm"),
    Kernel(operation="matmul", impl="torch.compile", impl_class="graph", build=_compiled, unsupported=_unsupported,
           summary="the same through torch.compile"),
)  # fmt: skip
