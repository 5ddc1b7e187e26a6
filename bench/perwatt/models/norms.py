"""RMS and layer norm over the last dimension."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from perwatt.models.weights import Make, Piece
from perwatt.spec.model import ModelShape


class Norm(nn.Module):
    """The shape's kind of norm of rows of ``width``; in float32 inside whatever the format of its input."""

    def __init__(self, shape: ModelShape, width: int, make: Make) -> None:
        super().__init__()
        self.extent, self.eps, self.layernorm = (width,), shape.norm_eps, shape.norm == "layernorm"
        self.weight = make.sure(width)
        self.bias = make(width, when=shape.norm_bias)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [..., width] to the same."""
        weight = self.weight.to(x.dtype)
        if not self.layernorm:
            return F.rms_norm(x, self.extent, weight, self.eps)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if x.device.type == "cpu" and x.dtype != torch.float32:
            # torch's kernel for CPUs (2.13) adds up gradients of weight and bias in 16 bits: 1 % off after 64 rows
            wide = None if bias is None else bias.float()
            return F.layer_norm(x.float(), self.extent, weight.float(), wide, self.eps).to(x.dtype)
        return F.layer_norm(x, self.extent, weight, bias, self.eps)

    def pieces(self, name: str) -> Iterator[Piece]:
        """Weight and bias."""
        yield Piece(name, self.weight)
        if self.bias is not None:
            yield Piece(f"{name}_bias", self.bias)
