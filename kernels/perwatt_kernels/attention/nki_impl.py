"""Flash attention in NKI on Trainium, forward and backward.

The kernels take heads one after the other in memory (``bhsd``); operands as projections leave them (``bshd``) are
copied first, in the timed body, and so is the gradient that comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perwatt_kernels.attention import nki_limits
from perwatt_kernels.dtypes import dtype
from perwatt_kernels.nki_torch import site as sites
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
EXTENTS = ("batch", "heads", "kv_heads", "q_len", "kv_len", "head_dim")


def _build(request: Request) -> Callable[..., Tensor]:
    from perwatt_kernels.attention.nki_ops import attention

    made, seen = attention(sites.site(request.device)), dtype(request.compute)
    causal, scale = request.params["causal"], request.params["scale"]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.to(seen).contiguous() for t in (q, k, v))  # under autocast they arrive in float32
        return made(q, k, v, causal, scale)[0]

    return attend


def _unsupported(request: Request) -> str | None:
    if reason := plain(request) or unfit(request, tuple(nki_limits.FORMATS)):
        return reason
    if reason := sites.missing(request.device):
        return reason
    gen = sites.site(request.device).generation
    sizes = {name: request.params[name] for name in EXTENTS}
    passes = ("fwd", "bwd") if request.gradients else ("fwd",)
    size, scale = BYTES[request.compute], request.params["scale"]
    refused = (nki_limits.unsupported(pass_, sizes, gen, size, scale) for pass_ in passes)
    return next(filter(None, refused), None)


def plain(request: Request) -> str | None:
    """Why attention is more than causal or full, or None."""
    params = request.params
    if params["window"]:
        return f"found a window of {params['window']}, expected 0: the kernel sees all keys, or all up to the query"
    if params["varlen"]:
        return f"found {len(params['varlen'])} packed documents, expected one: the kernel sees all keys of a sequence"
    if params["dropout"]:
        return f"found dropout {params['dropout']:g}, expected 0: the kernel draws no numbers"
    return None


def unfit(request: Request, formats: tuple[str, ...]) -> str | None:
    """Why a kernel does not take these formats, or None."""
    if request.compute not in formats:
        return f"found {request.compute} operands, expected one of {', '.join(formats)}"
    if request.output != request.compute:
        return f"found {request.output} output, expected that of the operands, {request.compute}"
    return None


KERNELS = (
    Kernel(operation="attention", impl="nki", impl_class="kernel", build=_build, unsupported=_unsupported,
           formats=tuple(nki_limits.FORMATS), shapes="head dim up to 128, no windows or packed documents",
           summary="flash attention in NKI, on Trainium", **sites.declared()),
)  # fmt: skip
