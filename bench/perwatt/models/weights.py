"""Stored parameters, the weights in them by name, and products with them.

Weights that multiply the same input are kept as one matrix (queries, keys and values; gate and up; all experts),
because one large product is faster than several small ones and the mathematics is the same. A :class:`Piece` cuts them
apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Piece(NamedTuple):
    """One weight as a paper would list it: ``stored[part]``."""

    name: str
    stored: nn.Parameter
    part: tuple[int | slice, ...] = ()


class Make:
    """Makes uninitialized parameters on a device in a format."""

    def __init__(self, device: torch.device, storage: torch.dtype) -> None:
        self.device, self.storage = device, storage

    def __call__(self, *extents: int, when: bool = True) -> nn.Parameter | None:
        """A parameter, or none where the shape has none."""
        return self.sure(*extents) if when else None

    def sure(self, *extents: int) -> nn.Parameter:
        """A parameter of these extents."""
        return nn.Parameter(torch.empty(*extents, device=self.device, dtype=self.storage))


def rows(stored: nn.Parameter | None, **sizes: int) -> Iterator[Piece]:
    """The weights that lie under each other in ``stored``; none where there is no such parameter."""
    if stored is None:
        return
    start = 0
    for name, size in sizes.items():
        yield Piece(name, stored, (slice(start, start + size),))
        start += size


def under(prefix: str, pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The same pieces with longer names."""
    return (piece._replace(name=prefix + piece.name) for piece in pieces)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Product with a weight [out, in] cast to the format of ``x``."""
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def batched_linear(x: Tensor, weight: Tensor) -> Tensor:
    """Products of ``x`` [n, rows, in] with as many weights [n, out, in]."""
    return torch.bmm(x, weight.to(x.dtype).transpose(1, 2))
