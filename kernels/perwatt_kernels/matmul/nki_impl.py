"""The product in NKI on Trainium: the three products of a linear layer, without transposes in HBM.

Operands have the layouts of a linear layer: ``fwd`` takes x [m, k] and w [n, k] as they lie, ``dgrad`` dy [m, n] and w,
``wgrad`` dy and x. A bias or an activation behind the product is the framework's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.matmul import nki_limits
from perwatt_kernels.matmul.reference import epilogue
from perwatt_kernels.nki_torch import site as sites
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


def _build(request: Request) -> Callable[..., Tensor]:
    from perwatt_kernels.matmul.nki_ops import product

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
    if request.compute not in nki_limits.FORMATS or request.scaling != "none":
        return f"found {request.compute} operands, expected one of {', '.join(nki_limits.FORMATS)}"
    if BYTES.get(request.output, 8) > BYTES[request.compute]:
        return f"found {request.output} output of {request.compute} operands, expected {request.compute}"
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
    refused = (nki_limits.unsupported(product, sizes, gen, BYTES[request.compute]) for product in products)
    return next(filter(None, refused), None)


KERNELS = (
    Kernel(operation="matmul", impl="nki", impl_class="kernel", build=_build, unsupported=_unsupported,
           summary="blocked product in NKI, on Trainium"),
)  # fmt: skip
