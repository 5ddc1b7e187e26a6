"""Transformer Engine's linear layer, ``transformer_engine.pytorch.Linear``: in bf16 and fp16, and in fp8 by tensor.

fp8 is its recipe ``Float8CurrentScaling`` in format ``HYBRID``: e4m3 forward, e5m2 gradients, scales of the very
tensors, as the policy has it. Its default accumulates products of the forward fast; here all three are as the policy
says. Its other recipes are other mathematics and stand for no policy: delayed scaling takes scales of earlier steps,
``Float8BlockScaling`` has tiles of 128, and ``MXFP8BlockScaling`` rounds the scales of blocks up so that nothing
saturates (``float_to_e8m0``), where the policy rounds them down (OCP Microscaling Formats 1.0, section 6.3).
Weights are quantized at every call: nothing is cached (transformer_engine/pytorch/module/linear.py, 2.5 to 2.20).
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.linear import operands
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

MULTIPLE = 16  # of both dimensions of operands in fp8 (documentation of ``autocast``)
VARIABLES = ("NVTE_FP8_CURRENT_SCALING_POWER_2_SCALES", "NVTE_BACKWARD_OVERRIDE")
"""Of the environment: they change what the recipe means."""


def _build(request: Request) -> operands.Linear:
    try:
        import transformer_engine.pytorch as te
    except (AssertionError, ImportError, OSError, RuntimeError) as error:  # it loads libraries and asks for versions
        raise NotImplementedError(f"transformer_engine does not load: {error}") from error
    params, taken = request.params, dtype(request.output)
    recipe = None if request.scaling == "none" else _recipe(request)

    def layer(bias: bool) -> Any:  # its own parameters are never used, and take no memory
        return te.Linear(params["k"], params["n"], bias=bias, params_dtype=taken, device="meta")

    layers = {bias: layer(bias) for bias in (False, True)}

    def linear(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        operands.check(x, w, bias, taken)
        with _region(te, recipe):
            return operands.through(layers[bias is not None], x, w, bias)

    return linear


def _region(te: Any, recipe: Any) -> AbstractContextManager[None]:
    """Where layers compute in fp8; ``fp8_autocast`` is its name before version 2.9."""
    if recipe is None:
        return nullcontext()
    region: AbstractContextManager[None] = (
        te.autocast(enabled=True, recipe=recipe) if hasattr(te, "autocast")
        else te.fp8_autocast(enabled=True, fp8_recipe=recipe)
    )  # fmt: skip
    return region


def _recipe(request: Request) -> Any:
    from transformer_engine.common.recipe import Float8CurrentScaling, Format, MMParams

    product = MMParams(use_split_accumulator=not request.fast_accumulation)
    return Float8CurrentScaling(
        fp8_format=Format.HYBRID if request.backward == "e5m2" else Format.E4M3,
        fp8_gemm_fprop=product, fp8_gemm_dgrad=product, fp8_gemm_wgrad=product,
    )  # fmt: skip


def _unsupported(request: Request) -> str | None:
    if request.scaling != "none":
        return _unsupported_fp8(request)
    if request.output != request.compute:
        return f"te gives its result in the format of its operands, {request.compute}, not {request.output}"
    return None


def _unsupported_fp8(request: Request) -> str | None:
    if request.scaling == "row":
        return "Transformer Engine has no scales by row"
    if request.compute != "e4m3fn" or request.quantize != "inside":
        return "te quantizes bf16 operands to e4m3fn inside: use precision fp8_tensor"
    if request.output != "bf16":
        return f"te gives its result in the format of its operands, bf16, not {request.output}"
    if request.capability is not None and request.capability < (8, 9):
        return f"fp8 needs compute capability 8.9, {request.chip} has {'.'.join(map(str, request.capability))}"
    for name in VARIABLES:
        if os.environ.get(name, "0") not in ("", "0"):
            return f"{name} is set, which changes what Transformer Engine computes: unset it"
    uneven = [f"{name} {request.params[name]}" for name in "mnk" if request.params[name] % MULTIPLE]
    if uneven:
        return f"te in fp8: found {' and '.join(uneven)}, expected multiples of {MULTIPLE}"
    return None


KERNELS = (
    Kernel(operation="linear", impl="te", impl_class="kernel", build=_build, unsupported=_unsupported,
           summary="Transformer Engine's Linear; fp8 by its current scaling", devices=("cuda",),
           formats=("bf16", "fp16", "e4m3fn"), since=(8, 0), module="transformer_engine.pytorch",
           distribution="transformer_engine", install="pip install --no-build-isolation 'transformer_engine[pytorch]'",
           shapes=f"any; in fp8 multiples of {MULTIPLE}"),
)  # fmt: skip
