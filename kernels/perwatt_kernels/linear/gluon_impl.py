"""Linear layers in Gluon: three launches of the product, of which two read operands as views and transpose nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perwatt_kernels import gluon_site
from perwatt_kernels.linear import triton_impl
from perwatt_kernels.matmul.gluon_impl import FORMATS, SHAPES, unsupported
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor


def _unsupported(request: Request) -> str | None:
    return triton_impl.from_outside(request) or unsupported(request)


def _build(request: Request) -> Callable[..., Tensor]:
    from perwatt_kernels.matmul.gluon_ops import OPERATIONS

    return triton_impl.built(request, OPERATIONS)


KERNELS = (
    Kernel(operation="linear", impl="gluon", impl_class="kernel", build=_build, unsupported=_unsupported,
           formats=FORMATS, shapes=SHAPES, summary="perwatt's product in Gluon, forward and both gradients",
           **gluon_site.declared()),
)  # fmt: skip
