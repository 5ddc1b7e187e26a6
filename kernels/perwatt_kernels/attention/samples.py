"""Queries, keys and values for a choice among implementations: random normal, in the layout that is declared."""

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
        request: of attention.
        device: where they are to be.
    """
    import torch

    params = request.params
    batch, width = params["batch"], params["head_dim"]
    generator = torch.Generator(device).manual_seed(0)

    def made(heads: int, length: int, format: str) -> Tensor:
        shape = (batch, length, heads, width) if params["layout"] == "bshd" else (batch, heads, length, width)
        tensor = torch.randn(shape, generator=generator, device=device).to(dtype(format))
        return tensor.transpose(1, 2) if params["layout"] == "bshd" else tensor

    queries = made(params["heads"], params["q_len"], request.compute)
    keys, values = (made(params["kv_heads"], params["kv_len"], request.compute) for _ in range(2))
    return [queries, keys, values], made(params["heads"], params["q_len"], request.output)
