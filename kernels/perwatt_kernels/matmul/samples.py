"""Operands of a product for a choice among implementations: random normal, in the layouts that are declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.matmul.quantize import Scheme, stored
from perwatt_kernels.registry import Request

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NATURAL = {"fwd": ("row", "column"), "dgrad": ("row", "row"), "wgrad": ("column", "row")}
"""Layouts of the operands of a linear layer's products."""


def samples(request: Request, device: torch.device) -> tuple[list[Tensor], Tensor]:
    """Operands as ``build``'s result takes them, and a gradient of the result.

    Args:
        request: of a product.
        device: where they are to be.
    """
    import torch

    params = request.params
    m, n, k = params["m"], params["n"], params["k"]
    rows, columns, depth = {"fwd": (m, n, k), "dgrad": (m, k, n), "wgrad": (n, k, m)}[params["product"]]
    batch = (params["batch"],) if params["batch"] > 1 else ()
    scheme = Scheme.of(request)
    source = torch.float32 if scheme.outside else dtype(request.compute if request.scaling == "none" else "bf16")
    generator = torch.Generator(device).manual_seed(0)

    def made(*shape: int, layout: str = "row", format: torch.dtype = source) -> Tensor:
        if layout == "column":
            return made(*shape[:-2], shape[-1], shape[-2], format=format).mT
        return torch.randn(shape, generator=generator, device=device).to(format)

    wanted = params["a_layout"], params["b_layout"]
    layouts = [own or usual for own, usual in zip(wanted, NATURAL[params["product"]], strict=True)]
    a = made(*batch, rows, depth, layout=layouts[0])
    b = made(*batch, depth, columns, layout=layouts[1])
    operands = [a, b]
    if scheme.outside:
        left, right, *scales = scheme.quantized(a, b)
        operands = [stored(left, scheme.left), stored(right, scheme.right), *scales]
    if "bias" in params["epilogue"]:
        operands.append(made(columns))
    return operands, made(*batch, rows, columns, format=dtype(request.output))
