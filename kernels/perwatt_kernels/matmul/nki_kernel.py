"""The product in NKI of 16- and 32-bit formats, on one core or two (docs/nki.md).

An operand whose depth is its last axis in memory is transposed on its way in, by DMA, and on v2, whose DMA engines
cannot, by the tensor engine; none is transposed in HBM.
"""

from __future__ import annotations

from typing import Any

from perwatt_kernels.matmul.nki_blocks import TILE, evict, product
from perwatt_kernels.nki_interpreter.api import nisa, nl
from perwatt_kernels.nki_turned import load_turned


def matmul(left: Any, right: Any, left_turned: bool, right_turned: bool) -> Any:
    """``left @ right`` in the operands' format.

    Args:
        left: [k, m] in HBM, or [m, k] if it has to be turned.
        right: [k, n], or [n, k] if it has to be turned.
        left_turned: whether the left operand's depth is its last axis.
        right_turned: the same of the right operand.
    """
    m, depth = (left.shape[0], left.shape[1]) if left_turned else (left.shape[1], left.shape[0])
    n = right.shape[0] if right_turned else right.shape[1]
    out = nl.ndarray((m, n), left.dtype, buffer=nl.shared_hbm)
    product(Plain(out, left, right, left_turned, right_turned), m, n, depth)
    return out


class Plain(nl.NKIObject):  # type: ignore[misc]  # the real one or its stand-in
    """Operands as they are."""

    def __init__(self, out: Any, left: Any, right: Any, left_turned: bool, right_turned: bool) -> None:
        self.out = out
        self.left = left
        self.right = right
        self.left_turned = left_turned
        self.right_turned = right_turned
        self.step = TILE
        self.weight = 2 if left.dtype in (nl.bfloat16, nl.float16) else 4
        self.even = 1

    def left_tile(self, k: int, deep: int, row: int, height: int) -> Any:
        """Rows of the left operand, [deep, height]."""
        return _load(self.left, k, deep, row, height, self.left_turned)

    def right_tile(self, k: int, deep: int, column: int, width: int) -> Any:
        """Columns of the right operand, [deep, width]."""
        return _load(self.right, k, deep, column, width, self.right_turned)

    def multiply(self, sums: Any, left: Any, offset: int, right: Any, more: bool) -> None:
        """Add a product to sums, or begin them."""
        nisa.nc_matmul(sums, left[:, offset : offset + sums.shape[0]], right, accumulate=more)

    def finish(self, sums: Any, row: int, high: int, column: int, width: int, turn: int) -> None:
        """Write a tile of the result."""
        evict(self.out, sums, row, high, column, width, turn)


def _load(source: Any, k: int, deep: int, start: int, size: int, turned: bool) -> Any:
    """A tile with the depth on partitions."""
    tile = nl.ndarray((deep, size), source.dtype)
    if not turned:
        nisa.dma_copy(tile, source[k : k + deep, start : start + size])
    elif nisa.get_nc_version() == nisa.nc_version.gen2:
        for at in range(0, size, TILE):
            rows = nl.ndarray((min(TILE, size - at), deep), source.dtype)
            nisa.dma_copy(rows, source[start + at : start + at + rows.shape[0], k : k + deep])
            flipped = nl.ndarray((deep, rows.shape[0]), source.dtype, buffer=nl.psum)
            nisa.nc_transpose(flipped, rows, engine=nisa.engine.tensor)
            nisa.tensor_copy(tile[:, at : at + rows.shape[0]], flipped)
    else:
        load_turned(tile, source[start : start + size, k : k + deep])
    return tile
