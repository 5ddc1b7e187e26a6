"""The product in NKI of 8-bit floats, two rows of the depth at once (``double_row``), with scales by tensor or by row.

A step of the depth is 256: partition j of a tile has rows 2j and 2j + 1, [128, 2, columns]. Of an operand whose depth
is its last axis in memory these are neighbours, so its pairs are transposed by DMA as elements of two bytes. Both
operands are laid out alike, which is all that a sum over the depth asks for.

Scales are applied to the sums in float32, on their way out. ``float8_e4m3fn`` on v3, which has the e4m3 of IEEE 754 (no
larger than 240), is read as that: codes up to 240 are the same. ``uint8`` is the e4m3 of the generation, as bytes.
"""

from __future__ import annotations

from typing import Any

from perwatt_kernels.matmul.nki_blocks import TILE, product
from perwatt_kernels.nki_interpreter.api import nisa, nl
from perwatt_kernels.nki_turned import load_turned


def matmul_fp8(
    left: Any, right: Any, left_scale: Any, right_scale: Any, left_turned: bool, right_turned: bool, wide: bool = False
) -> Any:
    """``(left * left_scale) @ (right * right_scale)`` in bfloat16.

    Args:
        left: [k, m] in HBM, or [m, k] if it has to be turned; k even.
        right: [k, n], or [n, k] if it has to be turned.
        left_scale: float32, [1, 1] or one for each row, [m, 1].
        right_scale: float32, [1, 1] or one for each column, [1, n].
        left_turned: whether the left operand's depth is its last axis.
        right_turned: the same of the right operand.
        wide: whether the result is float32.
    """
    m, depth = (left.shape[0], left.shape[1]) if left_turned else (left.shape[1], left.shape[0])
    n = right.shape[0] if right_turned else right.shape[1]
    out = nl.ndarray((m, n), nl.float32 if wide else nl.bfloat16, buffer=nl.shared_hbm)
    scales = Scales(left_scale, right_scale)
    product(Paired(out, _own(left), _own(right), scales, left_turned, right_turned), m, n, depth)
    return out


def _own(source: Any) -> Any:
    """An operand in the e4m3 of the generation."""
    form = nl.float8_e4m3 if nisa.get_nc_version() == nisa.nc_version.gen3 else nl.float8_e4m3fn
    return source.view(form) if source.dtype in (nl.uint8, nl.float8_e4m3fn) else source


class Scales(nl.NKIObject):  # type: ignore[misc]  # the real one or its stand-in
    """Factors of sums: one for all, or one for each row and one for each column."""

    def __init__(self, left: Any, right: Any) -> None:
        self.left = left
        self.right = right
        self.each = left.shape[0] > 1 or right.shape[1] > 1
        self.column = -1  # that the columns' factors are loaded for
        self.columns = None
        self.whole = None
        if not self.each:
            self.whole = nl.ndarray((TILE, 1), nl.float32)
            other = nl.ndarray((TILE, 1), nl.float32)
            nisa.dma_copy(self.whole, left.broadcast(0, TILE))
            nisa.dma_copy(other, right.broadcast(0, TILE))
            nisa.tensor_tensor(self.whole, self.whole, other, nl.multiply)

    def of_rows(self, row: int, high: int) -> Any:
        """Factors of some rows, one for each partition."""
        factors = nl.ndarray((high, 1), nl.float32)
        if self.left.shape[0] > 1:
            nisa.dma_copy(factors, self.left[row : row + high, 0:1])
        else:
            nisa.dma_copy(factors, self.left.broadcast(0, high))
        return factors

    def of_columns(self, column: int, width: int) -> Any:
        """Factors of some columns, the same on every partition; those of a block of columns are loaded once."""
        if self.column != column:
            self.column = column
            self.columns = nl.ndarray((TILE, width), nl.float32)
            if self.right.shape[1] > 1:
                nisa.dma_copy(self.columns, self.right[0:1, column : column + width].broadcast(0, TILE))
            else:
                nisa.dma_copy(self.columns, self.right.broadcast(0, TILE).broadcast(1, width))
        return self.columns


class Paired(nl.NKIObject):  # type: ignore[misc]
    """Operands by pairs of rows of the depth."""

    def __init__(self, out: Any, left: Any, right: Any, scales: Any, left_turned: bool, right_turned: bool) -> None:
        self.out = out
        self.left = left
        self.right = right
        self.scales = scales
        self.left_turned = left_turned
        self.right_turned = right_turned
        self.step = 2 * TILE
        self.weight = 2
        self.even = 1

    def left_tile(self, k: int, deep: int, row: int, height: int) -> Any:
        """Rows of the left operand, [deep / 2, 2, height]."""
        return _load(self.left, k, deep, row, height, self.left_turned)

    def right_tile(self, k: int, deep: int, column: int, width: int) -> Any:
        """Columns of the right operand, [deep / 2, 2, width]."""
        return _load(self.right, k, deep, column, width, self.right_turned)

    def multiply(self, sums: Any, left: Any, offset: int, right: Any, more: bool) -> None:
        """Add a product to sums, or begin them."""
        rows = left[:, :, offset : offset + sums.shape[0]]
        nisa.nc_matmul(sums, rows, right, accumulate=more, perf_mode=nisa.matmul_perf_mode.double_row)

    def finish(self, sums: Any, row: int, high: int, column: int, width: int, turn: int) -> None:
        """Scale a tile of the result and write it."""
        tile = nl.ndarray((high, width), self.out.dtype)
        if self.scales.each:
            columns = self.scales.of_columns(column, width)[0:high]
            rows = self.scales.of_rows(row, high)
            if turn % 2 == 1:  # half of the tiles by Scalar and GpSimd, as Vector takes longer for both factors
                part = nl.ndarray((high, width), nl.float32)
                nisa.activation(part, nl.copy, sums, scale=rows)
                nisa.tensor_tensor(tile, part, columns, nl.multiply, engine=nisa.engine.gpsimd)
            else:
                nisa.scalar_tensor_tensor(tile, sums, nl.multiply, rows, nl.multiply, columns)
        elif turn % 2 == 1:
            nisa.activation(tile, nl.copy, sums, scale=self.scales.whole[0:high])
        else:
            nisa.tensor_scalar(tile, sums, nl.multiply, self.scales.whole[0:high])
        nisa.dma_copy(self.out[row : row + high, column : column + width], tile)


def _load(source: Any, k: int, deep: int, start: int, size: int, turned: bool) -> Any:
    """A tile with pairs of the depth on partitions."""
    first, pairs = k // 2, deep // 2
    if not turned:
        tile = nl.ndarray((pairs, 2, size), source.dtype)
        rows = source.reshape((source.shape[0] // 2, 2, source.shape[1]))
        nisa.dma_copy(tile, rows[first : first + pairs, :, start : start + size])
        return tile
    tile = nl.ndarray((pairs, size), nl.bfloat16)  # two elements; DMA moves their bits as they are
    load_turned(tile, source.view(nl.bfloat16)[start : start + size, first : first + pairs])
    return tile.view(source.dtype).reshape((pairs, size, 2)).permute((0, 2, 1))
