"""The framework's own linear layer, called directly or through torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.linear import scaled_impl
from perwatt_kernels.matmul.torch_impl import widening
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor


def _unsupported(request: Request) -> str | None:
    return scaled_impl.unsupported_by_scaled(request) if request.scaling != "none" else widening(request)


def _eager(request: Request) -> Callable[..., Tensor]:
    from torch.nn.functional import linear

    if request.scaling != "none":
        return scaled_impl.scaled(request)
    output = dtype(request.output)
    if output == dtype(request.compute):
        return linear

    def narrowed(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        return linear(x, w, bias).to(output)

    return narrowed


def _compiled(request: Request) -> Callable[..., Tensor]:
    return request.compile(_eager(request))


KERNELS = (
    Kernel(operation="linear", impl="torch", impl_class="eager", build=_eager, unsupported=_unsupported,
           summary="torch's linear, eager; with scales torch._scaled_mm"),
    Kernel(operation="linear", impl="torch.compile", impl_class="graph", build=_compiled, unsupported=_unsupported,
           summary="the same through torch.compile"),
)  # fmt: skip
