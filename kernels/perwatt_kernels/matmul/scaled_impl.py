"""Products of 8-bit operands: the framework's scaled product, and one that only stores operands in 8 bits.

Quantization is by the rule of :mod:`~perwatt_kernels.matmul.quantize`, through the framework's own cast. On CUDA the
scaled product is cuBLASLt's and wants the left operand in rows and the right one in columns; another layout is copied
in the timed body. On a CPU without 8-bit units oneDNN widens the operands inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.matmul.quantize import FORMATS, SMALLEST_SCALE, Scheme
from perwatt_kernels.matmul.reference import epilogue
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

    Scaled = tuple[Tensor, Tensor]  # elements in 8 bits, scales in float32
    Product = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    How = tuple[str, str, int]  # format, granularity of scales, depth dimension

CUDA_MULTIPLE = 16  # cuBLASLt takes extents of 8-bit operands that are multiples of this


def scaled(request: Request) -> Callable[..., Tensor]:
    """``torch._scaled_mm``, operands quantized in the body unless they arrive so.

    Raises:
        NotImplementedError: this torch has none for such operands on the device.
    """
    import torch

    output, fast = dtype(request.output), request.fast_accumulation
    strict = request.device == "cuda"

    def product(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor) -> Tensor:
        if strict or torch.compiler.is_compiling():  # Inductor asks for cuBLASLt's layouts on any device
            a, b = a.contiguous(), b.mT.contiguous().mT
        return torch._scaled_mm(a, b, scale_a, scale_b, out_dtype=output, use_fast_accum=fast)

    _try(product, request)
    return _around(product, request)


def _try(product: Product, request: Request) -> None:
    """Multiply one tile: what is there differs by version of torch and by device, and is written nowhere."""
    import torch

    scheme, tile = Scheme.of(request), torch.ones(CUDA_MULTIPLE, CUDA_MULTIPLE, device=request.device)
    (a, scale_a), (b, scale_b) = (cast(tile, *how) for how in scheme.each)
    try:
        product(a, b, scale_a, scale_b)
    except (AttributeError, RuntimeError, ValueError) as error:
        message = f"torch {torch.__version__} on {request.device}: {error}; impl dequantize needs no such product"
        raise NotImplementedError(" ".join(message.split())) from error


def _dequantize(request: Request) -> Callable[..., Tensor]:
    """Elements widened to float32, multiplied, and scaled."""

    def product(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor) -> Tensor:
        return (a.float() @ b.float()) * scale_a * scale_b

    return _around(product, request)


def _around(product: Product, request: Request) -> Callable[..., Tensor]:
    """A product of quantized operands with what comes before and after it."""
    scheme, output, after = Scheme.of(request), dtype(request.output), request.params["epilogue"]
    times = _differentiable(product, request) if request.gradients else _quantizing(product, *scheme.each)

    def finish(result: Tensor, bias: Tensor | None) -> Tensor:
        return epilogue(result, bias, after).to(output)

    def prepared(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, bias: Tensor | None = None) -> Tensor:
        return finish(product(a, b, scale_a, scale_b), bias)

    def whole(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
        return finish(times(a, b), bias)

    return prepared if scheme.outside else whole


def _quantizing(product: Product, left: How, right: How) -> Callable[[Tensor, Tensor], Tensor]:
    """The product of two operands that it quantizes first."""

    def times(a: Tensor, b: Tensor) -> Tensor:
        (a, scale_a), (b, scale_b) = cast(a, *left), cast(b, *right)
        return product(a, b, scale_a, scale_b)

    return times


def _differentiable(product: Product, request: Request) -> Callable[[Tensor, Tensor], Tensor]:
    """The same with a backward pass, whose two products quantize anew: along another depth, rows have other scales."""
    import torch

    forward = _quantizing(product, *Scheme.of(request).each)
    to_left, to_right = (_quantizing(product, *scheme.each) for scheme in Scheme.of_gradients(request))

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
            ctx.save_for_backward(a, b)
            return forward(a, b)

        @staticmethod
        def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, Tensor]:
            a, b = ctx.saved_tensors
            return to_left(incoming, b.mT).to(a.dtype), to_right(a.mT, incoming).to(b.dtype)

    return Differentiable.apply


def cast(x: Tensor, name: str, scaling: str, depth: int) -> Scaled:
    """A tensor in 8 bits and its scales, by the framework's cast."""
    largest = FORMATS[name].largest
    top = x.abs().amax(dim=(-1, -2) if scaling == "tensor" else depth, keepdim=True).float()
    scale = (top / largest).clamp_min(SMALLEST_SCALE)
    return (x.float() / scale).clamp(-largest, largest).to(dtype(name)), scale


def unsupported(request: Request) -> str | None:
    """What the framework's 8-bit products cannot do."""
    if request.scaling == "block32":
        return "torch has no products with block scales on this device"
    if request.compute == "e4m3":
        return "torch has no dtype for the e4m3 that follows IEEE 754"
    if request.gradients and request.quantize == "outside":
        return "operands that arrive in 8 bits get no gradients; products dgrad and wgrad can be measured by themselves"
    return None


def unsupported_by_scaled(request: Request) -> str | None:
    """What ``torch._scaled_mm`` cannot do besides."""
    params = request.params
    if params["batch"] > 1:
        return "torch._scaled_mm takes no batches"
    if request.device == "cuda" and any(params[name] % CUDA_MULTIPLE for name in "mnk"):
        return f"torch._scaled_mm on cuda takes multiples of {CUDA_MULTIPLE} for m, n and k"
    if request.device == "cuda" and request.scaling == "row" and request.output != "bf16":
        return "torch._scaled_mm with row scales on cuda gives bf16 only"
    return unsupported(request)


def _unsupported(request: Request) -> str | None:
    return unsupported(request) if request.scaling != "none" else f"operands in {request.compute} have no scales"


KERNELS = (
    Kernel(operation="matmul", impl="dequantize", impl_class="eager", build=_dequantize, unsupported=_unsupported,
           summary="stores operands in 8 bits, multiplies them in float32"),
)  # fmt: skip
