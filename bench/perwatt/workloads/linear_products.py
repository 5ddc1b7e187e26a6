"""Linear layers as products: what is made for layers only can be measured as the products of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from perwatt_kernels import registry
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

LAYOUTS = {"a_layout": "row", "b_layout": "column"}  # as a layer has its input and its weight


def only_linear() -> dict[str, Kernel]:
    """Implementations of ``linear`` that ``matmul`` has none of the same name for, as its own."""
    products = registry.kernels("matmul")
    return {name: _as_product(own) for name, own in registry.kernels("linear").items() if name not in products}


def _as_product(kernel: Kernel) -> Kernel:
    def build(request: Request) -> Callable[..., Tensor]:
        linear: Callable[..., Tensor] = kernel.build(_layer(request))

        def matmul(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
            return linear(a, b.mT) if bias is None else linear(a, b.mT, bias)

        return matmul

    def unsupported(request: Request) -> str | None:
        params = request.params
        other = {name: params[name] for name, own in LAYOUTS.items() if params[name] not in (None, own)}
        if params["product"] != "fwd" or params["batch"] > 1:
            found = f"product {params['product']} of a batch of {params['batch']}"
            return f"{kernel.impl} is a linear layer: it has no {found}"
        if other:
            name, found = next(iter(other.items()))
            return f"{kernel.impl} is a linear layer, and takes {name} {LAYOUTS[name]}, not {found}"
        if "gelu" in params["epilogue"]:
            return f"{kernel.impl} is a linear layer, with no epilogue {params['epilogue']}"
        if request.quantize == "outside":
            return f"{kernel.impl} is a linear layer, and quantizes its operands itself"
        return kernel.unsupported(_layer(request))

    return replace(kernel, operation="matmul", build=build, unsupported=unsupported, choose=None)


def _layer(request: Request) -> Request:
    params = {name: request.params[name] for name in "mnk"} | {"bias": "bias" in request.params["epilogue"]}
    return replace(request, params=params)
