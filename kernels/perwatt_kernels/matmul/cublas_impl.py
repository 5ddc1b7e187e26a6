"""The framework's product pinned to cuBLAS or to cuBLASLt, where ``torch`` leaves the choice to torch.

``torch.backends.cuda.preferred_blas_library`` is a setting of the process, so it is put back after every call, and
products of a backward pass, which come later, would not keep to it: ``dgrad`` and ``wgrad`` are measured as products.
Torch takes another library where the preferred one has not the operation; families of kernels in the row's ``path`` do
not tell the two apart, as they have kernels in common.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from perwatt_kernels import registry
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

FRAMEWORK = "torch"  # the impl whose calls are pinned


def _pinned(library: str, request: Request) -> Callable[..., Tensor]:
    from torch.backends.cuda import preferred_blas_library

    product = registry.kernels("matmul")[FRAMEWORK].build(request)

    def matmul(*operands: Tensor) -> Tensor:
        before = preferred_blas_library()
        preferred_blas_library(library)
        try:
            result: Tensor = product(*operands)
        finally:
            preferred_blas_library(before)
        return result

    return matmul


def _unsupported(request: Request) -> str | None:
    if request.scaling != "none":
        return f"scaled products have one library for each way of scaling: use impl {FRAMEWORK}"
    return registry.kernels("matmul")[FRAMEWORK].refusal(request)


def _kernel(library: str, summary: str) -> Kernel:
    return Kernel(
        operation="matmul", impl=library, impl_class="eager", build=partial(_pinned, library),
        unsupported=_unsupported, summary=summary, devices=("cuda",), gradients=False,
    )  # fmt: skip


KERNELS = (
    _kernel("cublas", "torch.matmul pinned to cuBLAS"),
    _kernel("cublaslt", "torch.matmul pinned to cuBLASLt"),
)
