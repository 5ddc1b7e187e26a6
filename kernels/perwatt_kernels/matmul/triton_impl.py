"""The product in Triton: see :mod:`perwatt_kernels.matmul.triton_kernels` and docs/kernels.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perwatt_kernels import triton_site
from perwatt_kernels.arguments import of_dtype, of_shape, on, refuse
from perwatt_kernels.dtypes import dtype
from perwatt_kernels.matmul import scaled_impl
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from perwatt_kernels.matmul.product_ops import Operations

FORMATS = ("bf16", "fp16", "tf32", "fp32", "e4m3fn")
OUTPUTS = ("fp32", "bf16", "fp16")
EIGHT_BITS = (8, 9)  # compute capability from which there are units for them
SCALINGS = ("none", "tensor", "row")


def unsupported(request: Request) -> str | None:
    """What products in Triton do not do, of those with the operands' formats that are declared."""
    if request.output not in OUTPUTS:
        return f"found {request.output} output, expected {', '.join(OUTPUTS)}"
    if request.scaling not in SCALINGS:
        return scaled_impl.unsupported(request)
    if request.compute == "e4m3fn":
        if request.scaling == "none":
            return "found e4m3fn without scales, expected scales by tensor or by row"
        if request.capability is not None and request.capability < EIGHT_BITS:
            found = ".".join(map(str, request.capability))
            return f"products of 8-bit operands need compute capability 8.9, {request.chip} has {found}"
        return scaled_impl.no_gradients(request)
    if request.scaling != "none":
        return f"operands in {request.compute} have no scales"
    return None


def _unsupported(request: Request) -> str | None:
    if request.gradients and request.params["epilogue"].endswith("gelu_tanh"):
        return "the epilogue gelu_tanh has no backward: use pass fwd"
    return unsupported(request)


def _build(request: Request) -> Callable[..., Tensor]:
    from perwatt_kernels.matmul.triton_ops import OPERATIONS

    return built(request, OPERATIONS)


def built(request: Request, operations: Operations) -> Callable[..., Tensor]:
    """The product that is asked for.

    Args:
        request: of a matrix product.
        operations: what makes products.
    """
    if request.scaling != "none":
        return scaled(request, operations)
    output, compute = dtype(request.output), request.compute
    after = request.params["epilogue"].removeprefix("bias").removeprefix("_") or "none"

    def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
        check(a, b, bias, dtype(compute))
        return operations.times(a, b, bias, output, compute, after)

    return matmul


def scaled(request: Request, operations: Operations) -> Callable[..., Tensor]:
    """The product of 8-bit operands, with what comes before and after it.

    Args:
        request: of a matrix product.
        operations: what makes products.
    """
    from perwatt_kernels.matmul.triton_quantize import cast

    output, fast = dtype(request.output), request.fast_accumulation
    eight_bits = dtype("e4m3fn"), dtype("e5m2")

    def product(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor) -> Tensor:
        check(a, b, None, *eight_bits)
        _check_scales(a, b, scale_a, scale_b)
        return operations.scaled_times(a, b, scale_a, scale_b, output, fast)

    return scaled_impl.around(product, request, cast)


def check(a: Tensor, b: Tensor, bias: Tensor | None, *formats: torch.dtype) -> None:
    """Refuse operands that no product is made of.

    Raises:
        ValueError: names the argument, what was found and what was expected.
    """
    if a.dim() not in (2, 3):
        raise refuse("a", f"shape {list(a.shape)}", "[m, k] or [batch, m, k]")
    of_shape("b", b, (*a.shape[:-2], a.shape[-1], None))
    of_dtype("a", a, *formats)
    of_dtype("b", b, *(formats if len(formats) > 1 else (a.dtype,)))
    on("b", b, a.device)
    if bias is not None:
        of_shape("bias", bias, (b.shape[-1],))
        on("bias", bias, a.device)


def _check_scales(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor) -> None:
    import torch

    batch = a.shape[:-2]
    whole = scale_a.shape == scale_b.shape == (*batch, 1, 1)
    for name, scale, by_row in (("scale_a", scale_a, (a.shape[-2], 1)), ("scale_b", scale_b, (1, b.shape[-1]))):
        of_shape(name, scale, (*batch, 1, 1) if whole else (*batch, *by_row))
        of_dtype(name, scale, torch.float32)
        on(name, scale, a.device)


KERNELS = (
    Kernel(operation="matmul", impl="triton", impl_class="kernel", build=_build, unsupported=_unsupported,
           formats=FORMATS, summary="perwatt's product in Triton: persistent by descriptors, or pointers; splits",
           **triton_site.declared()),
)  # fmt: skip
