"""Operands of a linear layer for a choice among implementations: random normal, rows after rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.registry import Request

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def samples(request: Request, device: torch.device) -> tuple[list[Tensor], Tensor]:
    """Operands as ``build``'s result takes them, and a gradient of the result.

    Args:
        request: of a linear layer.
        device: where they are to be.
    """
    import torch

    params = request.params
    source = dtype(request.compute if request.scaling == "none" else "bf16")
    generator = torch.Generator(device).manual_seed(0)

    def made(*shape: int, format: torch.dtype = source) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).to(format)

    operands = [made(params["m"], params["k"]), made(params["n"], params["k"])]
    if params["bias"]:
        operands.append(made(params["n"]))
    return operands, made(params["m"], params["n"], format=dtype(request.output))
