"""The blocked product in NKI: ``left @ right`` with sums in float32, any shape, on one core or two (docs/kernels.md).

The depth lies on partitions. Cores share the rows of the result. A core keeps a block of the left operand in SBUF, as
many rows as fit with the whole depth, and the right one streams past in blocks of 512 columns; for every such block and
four tiles of rows, four banks of PSUM add up over the whole depth while the four others are evicted. So the left
operand is read once, and the right one once for each block of rows.

An operand whose depth is its last axis in memory is transposed on its way in, by DMA; none is transposed in HBM.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perwatt_kernels.nki_interpreter.api import nisa, nl

TILE, COLUMNS, GROUP = 128, 512, 4  # rows and depth of a tile, columns of a bank, tiles of rows that add up at once
SPARE = 24 * 1024  # bytes of a partition for results on their way out and tiles on their way in


def rows_kept(depth: int, size: int, sbuf_partition: int) -> int:
    """Rows of the left operand that SBUF holds over the whole depth, beside a block of columns of the right one.

    Args:
        depth: of both operands.
        size: bytes of an element.
        sbuf_partition: bytes of a partition.
    """
    tiles = -(-depth // TILE)
    group, columns = tiles * GROUP * TILE * size, tiles * COLUMNS * size
    held = (sbuf_partition - SPARE - columns) // group
    return max(held, 1) * GROUP * TILE  # with one group only, tiles of the other operand are dropped as soon as used


def matmul(left: Any, right: Any, left_turned: bool, right_turned: bool) -> Any:
    """``left @ right`` in the operands' format.

    Args:
        left: [k, m] in HBM, or [m, k] if it has to be turned.
        right: [k, n], or [n, k] if it has to be turned.
        left_turned: whether the left operand's depth is its last axis.
        right_turned: the same of the right operand.
    """
    m, depth = left.shape if left_turned else left.shape[::-1]
    n = right.shape[0] if right_turned else right.shape[1]
    out = nl.ndarray((m, n), left.dtype, buffer=nl.shared_hbm)
    share = -(-m // (TILE * nl.num_programs())) * TILE
    first = nl.program_id(0) * share
    kept = rows_kept(depth, 2 if left.dtype in (nl.bfloat16, nl.float16) else 4, nl.tile_size.sbuf_fmax_bytes)
    for row in range(first, min(first + share, m), kept):
        groups = list(parts(row, min(row + kept, first + share, m), GROUP * TILE))
        _block(out, left, right, groups, left_turned, right_turned)
    return out


def parts(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Start and size of the parts of a range, the last one shorter."""
    for at in range(start, stop, step):
        yield at, min(step, stop - at)


def _block(
    out: Any, left: Any, right: Any, groups: list[tuple[int, int]], left_turned: bool, right_turned: bool
) -> None:
    """All columns of some rows."""
    depth = left.shape[1] if left_turned else left.shape[0]
    lefts: dict[int, list[Any]] = {}
    columns = list(parts(0, out.shape[1], COLUMNS))
    for column, width in columns:
        rights: list[Any] = []
        for row, height in groups:
            tiles = lefts.setdefault(row, [])
            sums = [nl.ndarray((high, width), nl.float32, buffer=nl.psum) for _, high in parts(0, height, TILE)]
            for at, (k, deep) in enumerate(parts(0, depth, TILE)):
                if len(tiles) == at:
                    tiles.append(_load(left, k, deep, row, height, left_turned))
                if len(rights) == at:
                    rights.append(_load(right, k, deep, column, width, right_turned))
                for psum, (offset, high) in zip(sums, parts(0, height, TILE), strict=True):
                    nisa.nc_matmul(psum, tiles[at][:, offset : offset + high], rights[at], accumulate=at > 0)
                if row == groups[-1][0]:
                    rights[at] = None  # its memory is that of a tile of the next columns
                if column == columns[-1][0]:
                    tiles[at] = None
            _evict(out, sums, row, column)


def _load(source: Any, k: int, deep: int, start: int, size: int, turned: bool) -> Any:
    """A tile with the depth on partitions."""
    tile = nl.ndarray((deep, size), source.dtype)
    if turned:
        nisa.dma_transpose(tile, source[start : start + size, k : k + deep])
    else:
        nisa.dma_copy(tile, source[k : k + deep, start : start + size])
    return tile


def _evict(out: Any, sums: list[Any], row: int, column: int) -> None:
    """Round sums to the result's format and write them, by Vector and Scalar in turn."""
    for at, psum in enumerate(sums):
        high, width = psum.shape
        tile = nl.ndarray((high, width), out.dtype)
        if at % 2:
            nisa.activation(tile, nl.copy, psum)
        else:
            nisa.tensor_copy(tile, psum, engine=nisa.engine.vector)
        nisa.dma_copy(out[row + at * TILE : row + at * TILE + high, column : column + width], tile)
