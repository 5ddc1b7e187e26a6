"""``flex_attention`` compiled, with a block mask for what a case hides: blocks that nothing is seen in are left out.

The mask is made when the kernel is built, as a model makes it once for many layers. Making it takes a byte for every
pair of query and key of one head, at that time only. On CUDA it is a Triton template, from compute capability 8.0 on.
On a CPU it is one in C++, without a backward pass (torch/_inductor/kernel/flex/flex_cpu.py, torch 2.9 to 2.13).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perwatt_kernels import triton_site
from perwatt_kernels.attention.flash import operands
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor


def _build(request: Request) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    params, mask = request.params, _mask(request)
    grouped, scale = params["heads"] != params["kv_heads"], params["scale"]
    compiled = request.compile(flex_attention)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = operands(request, q, k, v)
        result: Tensor = compiled(q, k, v, block_mask=mask, scale=scale, enable_gqa=grouped)
        return result

    return attention


def _mask(request: Request) -> Any:
    """What is seen, by blocks; None where everything is."""
    import torch
    from torch.nn.attention.flex_attention import create_block_mask

    params, device = request.params, request.on()
    causal, window, lengths = params["causal"], params["window"], params["varlen"]
    if not (causal or window or lengths):
        return None
    document = None
    if lengths:
        numbers = torch.arange(len(lengths), device=device)
        document = numbers.repeat_interleave(torch.tensor(lengths, device=device))

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        visible = query >= key if causal else query >= 0
        if window:
            visible = visible & ((query - key).abs() < window)
        return visible if document is None else visible & (document[query] == document[key])

    return create_block_mask(seen, None, None, params["q_len"], params["kv_len"], device=device)


def _unsupported(request: Request) -> str | None:
    if request.output != request.compute:
        return f"flex_attention gives its result in the format of its operands, {request.compute}"
    if request.params["dropout"]:
        return f"flex_attention: found dropout {request.params['dropout']:g}, expected 0"
    if request.device == "cpu" and request.gradients:
        return "flex_attention has no backward on cpu: use pass fwd"
    if request.device == "cuda" and importlib.util.find_spec("triton") is None:
        return f"flex_attention needs triton on cuda: {triton_site.INSTALL}"
    return None


KERNELS = (
    Kernel(operation="attention", impl="flex", impl_class="graph", build=_build, unsupported=_unsupported,
           summary="flex_attention through torch.compile, with a block mask", devices=("cuda", "cpu"),
           formats=("fp32", "tf32", "bf16", "fp16"), since=triton_site.SINCE, until=triton_site.UNTIL,
           shapes="any; no dropout; on cpu forward only"),
)  # fmt: skip
