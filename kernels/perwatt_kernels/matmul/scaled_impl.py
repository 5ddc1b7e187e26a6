"""Products of 8-bit operands: the framework's scaled product, and one that only stores operands in 8 bits.

Quantization is by the rule of :mod:`~perwatt_kernels.matmul.quantize`, through the framework's own cast. On CUDA the
scaled product is cuBLASLt's, from compute capability 8.9 on. With scales by row it is torch's own CUTLASS kernel where
cuBLAS is older than 12.9 or the device is not of capability 9. Both want the left operand in rows and the right one in
columns (Hopper knows no other layout), so another layout is copied in the timed body; a depth and a width of whole 16
elements; scales in float32; and e5m2 on one side only, by row on the left. By row CUTLASS gave bf16 alone at first,
then fp16 and fp32, so that is tried out (aten/src/ATen/native/cuda/ScaledBlas.cpp and RowwiseScaledMM.cu).
On a CPU without 8-bit units oneDNN widens the operands inside.
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
    Cast = Callable[[Tensor, str, str, int], Scaled]
    How = tuple[str, str, int]  # format, granularity of scales, depth dimension

CUDA_SINCE = (8, 9)  # compute capability
CUDA_MULTIPLE = 16  # of depth and columns of a product on CUDA; rows may be any number


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
    return around(product, request)


def _try(product: Product, request: Request) -> None:
    """Multiply one tile in each way: what is there differs by version of torch and device, and is written nowhere."""
    import torch

    ways = [Scheme.of(request).each]
    if request.gradients:
        to_left, to_right = Scheme.of_gradients(request)
        ways += [to_left.each, _transposed(to_right)]
    tile = torch.ones(CUDA_MULTIPLE, CUDA_MULTIPLE, device=request.device)
    try:
        for how in ways:
            (a, scale_a), (b, scale_b) = (cast(tile, *each) for each in how)
            product(a, b, scale_a, scale_b)
    except (AttributeError, RuntimeError, ValueError) as error:
        message = f"torch {torch.__version__} on {request.device}: {error}; impl dequantize needs no such product"
        raise NotImplementedError(" ".join(message.split())) from error


def dequantized(request: Request) -> Callable[..., Tensor]:
    """Elements widened to float32, multiplied, and scaled."""

    def product(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor) -> Tensor:
        return (a.float() @ b.float()) * scale_a * scale_b

    return around(product, request)


def around(product: Product, request: Request, cast: Cast | None = None) -> Callable[..., Tensor]:
    """A product of quantized operands with what comes before and after it.

    Args:
        product: of elements and scales.
        request: what is asked.
        cast: quantizes a tensor, as :func:`cast` does if there is none.
    """
    scheme, output, after = Scheme.of(request), dtype(request.output), request.params["epilogue"]
    times = _differentiable(product, request, cast) if request.gradients else _quantizing(product, cast, *scheme.each)

    def finish(result: Tensor, bias: Tensor | None) -> Tensor:
        return epilogue(result, bias, after).to(output)

    def prepared(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, bias: Tensor | None = None) -> Tensor:
        return finish(product(a, b, scale_a, scale_b), bias)

    def whole(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
        return finish(times(a, b), bias)

    return prepared if scheme.outside else whole


def _quantizing(product: Product, own: Cast | None, left: How, right: How) -> Callable[[Tensor, Tensor], Tensor]:
    """The product of two operands that it quantizes first."""
    quantized = own or cast

    def times(a: Tensor, b: Tensor) -> Tensor:
        (a, scale_a), (b, scale_b) = quantized(a, *left), quantized(b, *right)
        return product(a, b, scale_a, scale_b)

    return times


def _differentiable(product: Product, request: Request, cast: Cast | None) -> Callable[[Tensor, Tensor], Tensor]:
    """The same with a backward pass, whose two products quantize anew: along another depth, rows have other scales.

    The right operand's gradient is taken transposed, so that gradients in e5m2 are always on the left.
    """
    import torch

    left, right = Scheme.of_gradients(request)
    forward = _quantizing(product, cast, *Scheme.of(request).each)
    to_left, to_right = _quantizing(product, cast, *left.each), _quantizing(product, cast, *_transposed(right))

    class Differentiable(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
            ctx.save_for_backward(a, b)
            return forward(a, b)

        @staticmethod
        def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, Tensor]:
            a, b = ctx.saved_tensors
            return to_left(incoming, b.mT).to(a.dtype), to_right(incoming.mT, a).mT.to(b.dtype)

    return Differentiable.apply


def _transposed(scheme: Scheme) -> tuple[How, How]:
    """How the operands of a product are quantized when it is computed as the transposed of right^T x left^T."""
    return (scheme.right, scheme.scaling, -1), (scheme.left, scheme.scaling, -2)


def cast(x: Tensor, name: str, scaling: str, depth: int) -> Scaled:
    """A tensor in 8 bits and its scales, by the framework's cast."""
    largest = FORMATS[name].largest
    top = x.abs().amax(dim=(-1, -2) if scaling == "tensor" else depth, keepdim=True).float()
    scale = (top / largest).clamp_min(SMALLEST_SCALE)
    return (x.float() / scale).clamp(-largest, largest).to(dtype(name)), scale


def unsupported(request: Request) -> str | None:
    """What the framework's 8-bit products cannot do."""
    if request.scaling == "block32":
        return (
            "products with block scales are Blackwell's (compute capability 10.0), and the layout of their scales "
            "that torch wants, tiles of 128 x 4, is not built yet"
        )
    if request.compute == "e4m3":
        return "torch only stores the e4m3 that follows IEEE 754, in the codes of e4m3fn: it has no products of it"
    return no_gradients(request)


def no_gradients(request: Request) -> str | None:
    """What no product can do whose operands arrive in 8 bits."""
    if request.gradients and request.quantize == "outside":
        return "operands that arrive in 8 bits get no gradients; products dgrad and wgrad can be measured by themselves"
    return None


def unsupported_by_scaled(request: Request) -> str | None:
    """What ``torch._scaled_mm`` cannot do besides."""
    params = request.params
    if request.capability is not None and request.capability < CUDA_SINCE:
        found = f"{request.chip} has {'.'.join(map(str, request.capability))}"
        return f"torch._scaled_mm on cuda needs compute capability 8.9, {found}"
    if params["batch"] > 1:
        return "torch._scaled_mm takes no batches"
    uneven = [name for name in _sixteens(request) if params[name] % CUDA_MULTIPLE]
    if request.device == "cuda" and uneven:
        names = " and ".join(uneven)
        return f"torch._scaled_mm on cuda takes multiples of {CUDA_MULTIPLE} for depth and columns, here {names}"
    return unsupported(request)


def _sixteens(request: Request) -> str:
    """Extents of the linear layer that are depth or columns of a product."""
    return "mnk" if request.gradients else {"fwd": "nk", "dgrad": "nk", "wgrad": "mk"}[request.params["product"]]


def _unsupported(request: Request) -> str | None:
    return unsupported(request) if request.scaling != "none" else f"operands in {request.compute} have no scales"


KERNELS = (
    Kernel(operation="matmul", impl="dequantize", impl_class="eager", build=dequantized, unsupported=_unsupported,
           summary="stores operands in 8 bits, multiplies them in float32"),
)  # fmt: skip
