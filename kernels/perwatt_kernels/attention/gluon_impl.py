"""Flash attention in Gluon on Hopper, with a warp that loads and warp groups that overlap products and exponentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perwatt_kernels import gluon_site
from perwatt_kernels.dtypes import dtype
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

WIDEST, WIDEST_GRADIENTS = 256, 128
CHUNK = 8  # elements of 16 bits to 16 bytes, of which the strides of descriptors are multiples


def _build(request: Request) -> Callable[..., Tensor]:
    from perwatt_kernels.attention.gluon_ops import attention

    params, seen = request.params, dtype(request.compute)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.to(seen) for t in (q, k, v))  # under autocast they arrive in float32
        return attention(q, k, v, params["causal"], params["scale"])[0]

    return attend


def _unsupported(request: Request) -> str | None:
    if reason := gluon_site.too_old():
        return reason
    params, widest = request.params, WIDEST_GRADIENTS if request.gradients else WIDEST
    if params["dropout"]:
        return f"found dropout {params['dropout']:g}, expected 0: the kernel draws no numbers"
    if params["window"]:
        return f"found a window of {params['window']}, expected none: triton has windows"
    if params["varlen"]:
        return "found packed documents, expected one a sequence: triton has tables of documents"
    if params["head_dim"] > widest or params["head_dim"] % CHUNK:
        whose = "with gradients " if request.gradients else ""
        return f"found head_dim {params['head_dim']}, expected {whose}a multiple of {CHUNK} up to {widest}"
    if request.output != request.compute:
        return f"found {request.output} output, expected that of the operands, {request.compute}"
    return None


KERNELS = (
    Kernel(
        operation="attention", impl="gluon", impl_class="kernel", build=_build, unsupported=_unsupported,
        formats=("bf16", "fp16"), summary="flash attention in Gluon for Hopper: a warp loads, two warp groups overlap",
        shapes=f"any lengths; head dim in multiples of {CHUNK} up to {WIDEST}, with gradients {WIDEST_GRADIENTS}",
        **gluon_site.declared(),
    ),
)  # fmt: skip
