"""The product in NKI on Trainium: the three products of a linear layer, without transposes in HBM.

Operands have the layouts of a linear layer: ``fwd`` takes x [m, k] and w [n, k] as they lie, ``dgrad`` dy [m, n] and w,
``wgrad`` dy and x. A bias or an activation behind the product is the framework's, and so is the quantization of 8-bit
operands: in the body to OCP's e4m3fn alone, which v4 has. v3's e4m3 and MXFP8 have to arrive quantized.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.matmul import nki_limits, scaled_impl
from perwatt_kernels.matmul.reference import epilogue
from perwatt_kernels.nki_torch import site as sites
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

    from perwatt_kernels.nki_interpreter.hardware import Generation

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
SCALED_OUTPUTS = ("bf16", "fp32")
ELEMENTS = {"e4m3fn": "float8_e4m3fn", "e4m3": "float8_e4m3", "mxfp8": "float8_e4m3fn"}
INSIDE = {
    "e4m3": "torch's cast to float8_e4m3fn is not documented to compile on Trainium2, whose format this is",
    "mxfp8": "the chip's own quantization has scales twice those of the policy, so the gate would find it wrong",
}
"""Why operands of a format are not quantized in the body."""


def _build(request: Request) -> Callable[..., Tensor]:
    from perwatt_kernels.matmul.nki_ops import product, scaled_as_they_lie

    if request.scaling != "none":
        return scaled_impl.around(scaled_as_they_lie(
            sites.site(request.device), request.output == "fp32", blocks=request.scaling == "block32"
        ), request)  # fmt: skip
    times = product(sites.site(request.device))
    left_turned, right_turned = nki_limits.TURNED[request.params["product"]]
    seen, output, after = dtype(request.compute), dtype(request.output), request.params["epilogue"]

    def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
        a, b = a.to(seen), b.to(seen)  # under autocast they arrive in float32
        left, right = a if left_turned else a.mT, b.mT if right_turned else b
        return epilogue(times(left, right, left_turned, right_turned), bias, after).to(output)

    return matmul


def _unsupported(request: Request) -> str | None:
    params = request.params
    if reason := _formats(request):
        return reason
    if params["batch"] > 1:
        return f"found a batch of {params['batch']}, expected 1: the kernel does one product"
    natural = {"fwd": ("row", "column"), "dgrad": ("row", "row"), "wgrad": ("column", "row")}[params["product"]]
    for name, found, wanted in zip("ab", (params["a_layout"], params["b_layout"]), natural, strict=True):
        if found not in (None, wanted):
            return f"found {name}_layout {found}, expected {wanted}, as the product {params['product']} has it"
    if reason := sites.missing(request.device):
        return reason
    gen, products = sites.site(request.device).generation, [params["product"]]
    products += ["dgrad", "wgrad"] if request.gradients else []
    sizes = {name: params[name] for name in "mnk"}
    return next(filter(None, (_of_sizes(request, product, sizes, gen) for product in products)), None)


def _of_sizes(request: Request, product: str, sizes: Mapping[str, int], gen: Generation) -> str | None:
    """Why a product of these sizes cannot be done on a generation."""
    if request.scaling == "none":
        return nki_limits.unsupported(product, sizes, gen, BYTES[request.compute])
    if request.scaling == "block32":
        return nki_limits.unsupported_mx(product, sizes, gen, outside=True)
    return nki_limits.unsupported_fp8(product, sizes, gen, ELEMENTS[request.compute])


def _formats(request: Request) -> str | None:
    """What is wrong with operands or result."""
    if request.scaling != "none":
        if request.compute not in ELEMENTS:
            return f"found {request.compute} operands with scales, expected one of {', '.join(ELEMENTS)}"
        if request.output not in SCALED_OUTPUTS:
            return f"found {request.output} output, expected {' or '.join(SCALED_OUTPUTS)}"
        if request.quantize == "inside" and request.compute in INSIDE:
            nearest = "mxfp8" if request.scaling == "block32" else f"fp8_{request.scaling}_ieee"
            return (f"found {request.compute} operands quantized in the body, expected them to arrive so: "
                    f"{INSIDE[request.compute]}; nearest policy {nearest}_outside")  # fmt: skip
        return scaled_impl.no_gradients(request)
    if request.compute not in nki_limits.FORMATS:
        return f"found {request.compute} operands, expected one of {', '.join(nki_limits.FORMATS)}"
    if BYTES.get(request.output, 8) > BYTES[request.compute]:
        return f"found {request.output} output of {request.compute} operands, expected {request.compute}"
    return None


KERNELS = (
    Kernel(operation="matmul", impl="nki", impl_class="kernel", build=_build, unsupported=_unsupported,
           formats=(*nki_limits.FORMATS, *ELEMENTS), shapes="a linear layer's layouts, no batch",
           summary="blocked product in NKI, on Trainium", **sites.declared()),
)  # fmt: skip
