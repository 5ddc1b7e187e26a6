"""The product in NKI of MXFP8 operands on v4: 8-bit floats with a power of two for every 32 of them along the depth.

A step of the depth is 512: a partition has four rows of it, packed. Operands come in bfloat16 or float16 and are
quantized on the chip (``quantize_mx``), or arrive quantized.

- On the chip, partition j of a step of 4P rows has rows 2j, 2j + 1, 2P + 2j and 2P + 2j + 1, so that an operand whose
  depth is its last axis is transposed by DMA as neighbours of four bytes. A block of 32 is two runs of 16 rows.
- Quantized before, partition j has rows 4j to 4j + 3, and a block of 32 rows without a gap.

Rows that a step lacks are zeros, and so is a column that makes an odd number of them even, as the instructions ask.
"""

from __future__ import annotations

from typing import Any

from perwatt_kernels.matmul.nki_blocks import TILE, evict, product
from perwatt_kernels.nki_interpreter.api import nisa, nl
from perwatt_kernels.nki_turned import load_turned

QUADRANT, BLOCK = 32, 32  # partitions that have their own scales; elements that share one
PER_QUADRANT = 4  # scales of a column in a quadrant


def matmul_mx(left: Any, right: Any, left_turned: bool, right_turned: bool, wide: bool = False) -> Any:
    """``left @ right``, both quantized to MXFP8 (e4m3fn) on the chip, in the operands' format.

    Args:
        left: [k, m] in HBM, or [m, k] if it has to be turned; bfloat16 or float16, k even.
        right: [k, n], or [n, k] if it has to be turned.
        left_turned: whether the left operand's depth is its last axis.
        right_turned: the same of the right operand.
        wide: whether the result is float32.
    """
    out, m, n, depth = _result(left, right, left_turned, right_turned, nl.float32 if wide else left.dtype)
    product(Quantizing(out, left, right, left_turned, right_turned), m, n, depth)
    return out


def matmul_mx_quantized(
    left: Any, right: Any, left_scale: Any, right_scale: Any, left_turned: bool, right_turned: bool, wide: bool = False
) -> Any:
    """The same of operands that arrive quantized, in bfloat16.

    Args:
        left: [k, m] in HBM, or [m, k] if it has to be turned; float8_e4m3fn, as bytes (uint8) too, or float8_e5m2; k a
            multiple of four.
        right: [k, n], or [n, k] if it has to be turned.
        left_scale: exponents of two plus 127 (E8M0) in uint8, [k / 32, m], for either layout.
        right_scale: [k / 32, n].
        left_turned: whether the left operand's depth is its last axis.
        right_turned: the same of the right operand.
        wide: whether the result is float32.
    """
    left, right = _elements(left), _elements(right)
    form = nl.float32 if wide else nl.bfloat16
    out, m, n, depth = _result(left, right, left_turned, right_turned, form)
    product(Quantized(out, left, right, left_scale, right_scale, left_turned, right_turned), m, n, depth)
    return out


def _elements(source: Any) -> Any:
    """Bytes as the elements that they are."""
    return source.view(nl.float8_e4m3fn) if source.dtype == nl.uint8 else source


def _result(left: Any, right: Any, left_turned: bool, right_turned: bool, dtype: Any) -> Any:
    """Memory for the result, and the sizes."""
    m, depth = (left.shape[0], left.shape[1]) if left_turned else (left.shape[1], left.shape[0])
    n = right.shape[0] if right_turned else right.shape[1]
    return nl.ndarray((m, n), dtype, buffer=nl.shared_hbm), m, n, depth


class Quantizing(nl.NKIObject):  # type: ignore[misc]  # the real one or its stand-in
    """Operands that are quantized on their way in."""

    def __init__(self, out: Any, left: Any, right: Any, left_turned: bool, right_turned: bool) -> None:
        self.out = out
        self.left = left
        self.right = right
        self.left_turned = left_turned
        self.right_turned = right_turned
        self.step = 4 * TILE
        self.weight = 5  # four elements and their scale
        self.even = 2

    def left_tile(self, k: int, deep: int, row: int, height: int) -> Any:
        """Rows of the left operand, packed, and their scales."""
        return _quantize(_quads(self.left, k, deep, row, height, self.left_turned))

    def right_tile(self, k: int, deep: int, column: int, width: int) -> Any:
        """Columns of the right operand, packed, and their scales."""
        return _quantize(_quads(self.right, k, deep, column, width, self.right_turned))

    def multiply(self, sums: Any, left: Any, offset: int, right: Any, more: bool) -> None:
        """Add a product to sums, or begin them."""
        _multiply(sums, left, offset, right, more)

    def finish(self, sums: Any, row: int, high: int, column: int, width: int, turn: int) -> None:
        """Write a tile of the result."""
        evict(self.out, sums, row, high, column, width, turn)


class Quantized(nl.NKIObject):  # type: ignore[misc]
    """Operands that arrive quantized."""

    def __init__(
        self, out: Any, left: Any, right: Any, left_scale: Any, right_scale: Any, left_turned: bool, right_turned: bool
    ) -> None:
        self.out = out
        self.left = left
        self.right = right
        self.left_scale = left_scale
        self.right_scale = right_scale
        self.left_turned = left_turned
        self.right_turned = right_turned
        self.step = 4 * TILE
        self.weight = 5
        self.even = 2

    def left_tile(self, k: int, deep: int, row: int, height: int) -> Any:
        """Rows of the left operand, packed, and their scales."""
        data = _packed(self.left, k, deep, row, height, self.left_turned)
        return data, _scales(self.left_scale, k, deep, row, height, data.shape)

    def right_tile(self, k: int, deep: int, column: int, width: int) -> Any:
        """Columns of the right operand, packed, and their scales."""
        data = _packed(self.right, k, deep, column, width, self.right_turned)
        return data, _scales(self.right_scale, k, deep, column, width, data.shape)

    def multiply(self, sums: Any, left: Any, offset: int, right: Any, more: bool) -> None:
        """Add a product to sums, or begin them."""
        _multiply(sums, left, offset, right, more)

    def finish(self, sums: Any, row: int, high: int, column: int, width: int, turn: int) -> None:
        """Write a tile of the result."""
        evict(self.out, sums, row, high, column, width, turn)


def _multiply(sums: Any, left: Any, offset: int, right: Any, more: bool) -> None:
    end = offset + sums.shape[0]
    columns = right[0][:, 0 : sums.shape[1]]
    scales = right[1][:, 0 : sums.shape[1]]
    nisa.nc_matmul_mx(sums, left[0][:, offset:end], columns, left[1][:, offset:end], scales, accumulate=more)


def _partitions(deep: int) -> int:
    """Of a step with so many rows of the depth: whole quadrants."""
    return -(-deep // (4 * QUADRANT)) * QUADRANT


def _quads(source: Any, k: int, deep: int, start: int, size: int, turned: bool) -> Any:
    """Four rows of the depth on each partition, side by side, [partitions, columns, 4]; columns are even."""
    parts, columns = _partitions(deep), size + size % 2
    whole = deep == 4 * parts and columns == size
    if turned:
        pairs = nl.ndarray((parts, 2, columns), nl.float32)  # two elements; DMA moves their bits as they are
        if not whole:
            nisa.memset(pairs, 0.0)
        near = source.view(nl.float32)
        for half in range(2):
            first, count = k // 2 + half * parts, min(parts, deep // 2 - half * parts)
            if count > 0:
                load_turned(pairs[0:count, half, 0:size], near[start : start + size, first : first + count])
        found = pairs.view(source.dtype).reshape((parts, 2, columns, 2)).permute((0, 2, 1, 3))
    else:
        pairs = nl.ndarray((parts, 2, 2, columns), source.dtype)
        if not whole:
            nisa.memset(pairs, 0.0)
        near = source.reshape((source.shape[0] // 2, 2, source.shape[1]))
        for half in range(2):
            first, count = k // 2 + half * parts, min(parts, deep // 2 - half * parts)
            if count > 0:
                nisa.dma_copy(pairs[0:count, half, :, 0:size], near[first : first + count, :, start : start + size])
        found = pairs.permute((0, 3, 1, 2))
    quads = nl.ndarray((parts, columns, 2, 2), source.dtype)
    gpsimd = k // (4 * TILE) % 3 == 2  # which has nothing else to do, but is slower; Vector quantizes
    nisa.tensor_copy(quads, found, engine=nisa.engine.gpsimd if gpsimd else nisa.engine.scalar)
    return quads.reshape((parts, columns * 4))


def _quantize(quads: Any) -> Any:
    """Packed elements and their scales."""
    parts, columns = quads.shape[0], quads.shape[1] // 4
    data = nl.ndarray((parts, columns), nl.float8_e4m3fn_x4)
    scales = nl.ndarray((parts if parts > QUADRANT else PER_QUADRANT, columns), nl.float8_e8m0fnu)
    nisa.quantize_mx(data, quads, scales)
    return data, scales


def _packed(source: Any, k: int, deep: int, start: int, size: int, turned: bool) -> Any:
    """Four rows of the depth on each partition as one packed element, [partitions, columns]; columns are even."""
    parts, columns, first, count = _partitions(deep), size + size % 2, k // 4, deep // 4
    form = nl.float8_e5m2_x4 if source.dtype == nl.float8_e5m2 else nl.float8_e4m3fn_x4
    whole = count == parts and columns == size
    if turned:
        data = nl.ndarray((parts, columns), nl.uint32)  # four elements; DMA moves their bits as they are
        if not whole:
            nisa.memset(data, 0)
        near = source.view(nl.uint32)
        load_turned(data[0:count, 0:size], near[start : start + size, first : first + count])
        return data.view(form)
    rows = nl.ndarray((parts, 4, columns), source.dtype)
    if not whole:
        nisa.memset(rows, 0.0)
    near = source.reshape((source.shape[0] // 4, 4, source.shape[1]))
    nisa.dma_copy(rows[0:count, :, 0:size], near[first : first + count, :, start : start + size])
    quads = nl.ndarray((parts, columns, 4), source.dtype)
    engines = (nisa.engine.vector, nisa.engine.scalar, nisa.engine.gpsimd)
    nisa.tensor_copy(quads, rows.permute((0, 2, 1)), engine=engines[k // (4 * TILE) % 3])
    return quads.reshape((parts, columns * 4)).view(form)


def _scales(source: Any, k: int, deep: int, start: int, size: int, shape: Any) -> Any:
    """Scales of a step where the engine looks for them: those of a quadrant on its first four partitions."""
    parts, columns = shape
    scales = nl.ndarray((parts if parts > QUADRANT else PER_QUADRANT, columns), nl.uint8)
    nisa.memset(scales, 0)
    last = -(-(k + deep) // BLOCK)
    for quadrant in range(parts // QUADRANT):
        first = k // BLOCK + quadrant * PER_QUADRANT
        count = min(PER_QUADRANT, last - first)
        at = quadrant * QUADRANT
        nisa.dma_copy(scales[at : at + count, 0:size], source[first : first + count, start : start + size])
    return scales
