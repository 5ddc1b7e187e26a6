"""torchao's training in fp8, ``torchao.float8``: one scale by tensor or by row, three products of each layer in 8 bits.

Its own recipes are other policies in part: ``rowwise`` has scales of powers of two and gradients in e4m3, and the
products of a forward are accumulated fast. So the configuration is spelled out here, as the policy says. Products are
``torch._scaled_mm``; quantization is operations of torch, so its documentation asks for ``torch.compile``, which is an
impl of its own here. The scale is a quotient of float64 that elements are multiplied by, where ours divides in float32
(torchao/float8/float8_utils.py, 0.18).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.linear import operands
from perwatt_kernels.matmul.scaled_impl import CUDA_MULTIPLE
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

SCALINGS = {"tensor": "TENSORWISE", "row": "AXISWISE"}


def _build(request: Request) -> operands.Linear:
    import torch
    from torchao.float8 import convert_to_float8_training

    params, config = request.params, _config(request)
    taken = dtype(request.output)

    def converted(bias: bool) -> torch.nn.Module:
        layer = torch.nn.Linear(params["k"], params["n"], bias=bias, device="meta", dtype=taken)
        module: torch.nn.Module = convert_to_float8_training(layer, config=config)
        return module

    modules = {bias: converted(bias) for bias in (False, True)}

    def linear(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        operands.check(x, w, bias, taken)
        return operands.through(modules[bias is not None], x, w, bias)

    return linear


def _compiled(request: Request) -> operands.Linear:
    return request.compile(_build(request))


def _config(request: Request) -> Any:
    """The policy in torchao's words."""
    from torchao.float8 import CastConfig, Float8GemmConfig, Float8LinearConfig, ScalingGranularity

    granularity = ScalingGranularity[SCALINGS[request.scaling]]
    forward, backward = (
        CastConfig(scaling_granularity=granularity, target_dtype=dtype(name))
        for name in (request.compute, request.backward or request.compute)
    )
    product = Float8GemmConfig(use_fast_accum=request.fast_accumulation)
    return Float8LinearConfig(
        cast_config_input=forward, cast_config_weight=forward, cast_config_grad_output=backward,
        gemm_config_output=product, gemm_config_grad_input=product, gemm_config_grad_weight=product,
        emulate=request.device == "cpu",
    )  # fmt: skip


def _unsupported(request: Request) -> str | None:
    if request.scaling not in SCALINGS:
        return f"torchao.float8 has scales by tensor and by row, not {request.scaling}"
    if request.quantize != "inside":
        return "torchao.float8 quantizes inside: use a policy without _outside"
    if request.output not in ("bf16", "fp16"):
        return f"torchao gives its result in the format of its operands, bf16 or fp16, not {request.output}"
    uneven = [name for name in ("mnk" if request.gradients else "nk") if request.params[name] % CUDA_MULTIPLE]
    if request.device == "cuda" and uneven:
        return (
            f"torch._scaled_mm on cuda takes multiples of {CUDA_MULTIPLE} for depth and columns, "
            f"here {' and '.join(uneven)}"
        )
    return None


def _kernel(impl: str, impl_class: str, build: Any, summary: str) -> Kernel:
    return Kernel(
        operation="linear", impl=impl, impl_class=impl_class, build=build, unsupported=_unsupported, summary=summary,
        devices=("cuda", "cpu"), formats=("e4m3fn",), since=(8, 9), module="torchao.float8", distribution="torchao",
        install="pip install torchao", shapes=f"on cuda sizes in multiples of {CUDA_MULTIPLE}",
    )  # fmt: skip


KERNELS = (
    _kernel("torchao", "eager", _build, "torchao.float8, eager"),
    _kernel("torchao.compile", "graph", _compiled, "the same through torch.compile"),
)
