"""Flash attention in Triton on NVIDIA GPUs, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from perwatt_kernels import triton_site
from perwatt_kernels.dtypes import dtype
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("bf16", "fp16", "fp32")
WIDEST, WIDEST_GRADIENTS = 256, 128
"""Head dims that there is room for on chip, in the forward and in the backward, which keeps two sums."""


def _build(ordered: bool, request: Request) -> Callable[..., Tensor]:
    from perwatt_kernels.attention.triton_ops import attention

    params, seen = request.params, dtype(request.compute)
    documents = list(params["varlen"] or ())

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.to(seen) for t in (q, k, v))  # under autocast they arrive in float32
        return attention(q, k, v, params["causal"], params["window"] or 0, documents, params["scale"], ordered)[0]

    return attend


def _unsupported(request: Request) -> str | None:
    params, widest = request.params, WIDEST_GRADIENTS if request.gradients else WIDEST
    if params["dropout"]:
        return f"found dropout {params['dropout']:g}, expected 0: the kernel draws no numbers"
    if params["head_dim"] > widest:
        whose = "with gradients " if request.gradients else ""
        return f"found head_dim {params['head_dim']}, expected 1 to {widest}: {whose}a tile of more has no room on chip"
    if request.output != request.compute:
        return f"found {request.output} output, expected that of the operands, {request.compute}"
    return None


def _kernel(impl: str, ordered: bool, summary: str) -> Kernel:
    return Kernel(
        operation="attention", impl=impl, impl_class="kernel", build=partial(_build, ordered),
        unsupported=_unsupported, formats=FORMATS, summary=summary,
        shapes=f"any lengths, window, packed documents; head dim up to {WIDEST}, with gradients {WIDEST_GRADIENTS}",
        **triton_site.declared(),
    )  # fmt: skip


KERNELS = (
    _kernel("triton", True, "flash attention in Triton, gradients bit for bit the same every time"),
    _kernel("triton-atomic", False, "the same, gradients of queries by atomics: fewer products, sums in no order"),
)
