"""The product in Gluon: see :mod:`perwatt_kernels.matmul.gluon_kernel` and docs/kernels.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perwatt_kernels import gluon_site
from perwatt_kernels.matmul import triton_impl
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("bf16", "fp16", "e4m3fn")
ALIGNED = {"bf16": 8, "fp16": 8, "e4m3fn": 16}  # elements that 16 bytes hold
SHAPES = "one product, rows of operands and result in multiples of 16 bytes"


def unsupported(request: Request) -> str | None:
    """What products in Gluon do not do, of those with the operands' formats that are declared."""
    if reason := gluon_site.too_old():
        return reason
    params = request.params
    if params.get("batch", 1) > 1:
        return "gluon takes no batches: triton does"
    multiple = ALIGNED[request.compute]
    uneven = [name for name in _in_rows(request) if params[name] % multiple]
    if uneven:
        return f"gluon takes multiples of {multiple} for {' and '.join(uneven)}: triton takes any"
    return triton_impl.unsupported(request)


def _in_rows(request: Request) -> str:
    """Extents of the linear layer that are rows of an operand, or of a result, as they are stored."""
    if request.compute != "e4m3fn":
        return "nk"
    return "mnk" if request.gradients or request.params.get("product") == "wgrad" else "nk"


def _unsupported(request: Request) -> str | None:
    if request.scaling == "none" and request.params["epilogue"].endswith("gelu_tanh"):
        return f"gluon has no epilogue {request.params['epilogue']}: triton has"
    return unsupported(request)


def _build(request: Request) -> Callable[..., Tensor]:
    from perwatt_kernels.matmul.gluon_ops import OPERATIONS

    return triton_impl.built(request, OPERATIONS)


KERNELS = (
    Kernel(operation="matmul", impl="gluon", impl_class="kernel", build=_build, unsupported=_unsupported,
           formats=FORMATS, shapes=SHAPES,
           summary="perwatt's product in Gluon: persistent, warps that copy and warps that multiply",
           **gluon_site.declared()),
)  # fmt: skip
