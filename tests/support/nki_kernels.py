"""Matrix products of growing reuse: the stages of AWS's tutorial from its numbers, and one as a framework's compiler.

Written from what guides/tutorials/matrix_multiplication says of each stage: which loops load what, and how large its
blocks are. The left operand arrives transposed, [k, m], as there; ``framework`` takes it as torch has it, [m, k].
"""

from __future__ import annotations

from typing import Any

from perwatt_kernels.nki_interpreter.api import nisa, nl

M, N, K = 128, 512, 128  # of a tile


def _tile(source: Any, row: int, column: int, rows: int, columns: int) -> Any:
    tile = nl.ndarray((rows, columns), source.dtype)
    nisa.dma_copy(tile, source[row : row + rows, column : column + columns])
    return tile


def _out(left: Any, right: Any) -> Any:
    return nl.ndarray((left.shape[1], right.shape[1]), left.dtype, buffer=nl.shared_hbm)


def _evict(out: Any, psum: Any, row: int, column: int) -> None:
    tile = nl.ndarray(psum.shape, out.dtype)
    nisa.tensor_copy(tile, psum)
    nisa.dma_copy(out[row : row + M, column : column + N], tile)


def tiled(left: Any, right: Any) -> Any:
    """Every product loads both of its tiles: 2 x 128 x 128 x 512 operations for 160 KiB."""
    out, depth = _out(left, right), left.shape[0]
    for m in range(0, left.shape[1], M):
        for n in range(0, right.shape[1], N):
            psum = nl.ndarray((M, N), nl.float32, buffer=nl.psum)
            for k in range(0, depth, K):
                nisa.nc_matmul(psum, _tile(left, k, m, K, M), _tile(right, k, n, K, N))
            _evict(out, psum, m, n)
    return out


def hoisted(left: Any, right: Any) -> Any:
    """Tiles of the left operand are loaded once for a row of results, tiles of the right one for each result."""
    out, depth = _out(left, right), left.shape[0]
    for m in range(0, left.shape[1], M):
        lefts = [_tile(left, k, m, K, M) for k in range(0, depth, K)]
        for n in range(0, right.shape[1], N):
            psum = nl.ndarray((M, N), nl.float32, buffer=nl.psum)
            for at, k in enumerate(range(0, depth, K)):
                nisa.nc_matmul(psum, lefts[at], _tile(right, k, n, K, N))
            _evict(out, psum, m, n)
    return out


def blocked_free(left: Any, right: Any, m_tiles: int = 2, n_tiles: int = 2) -> Any:
    """Blocks of 2 x 128 rows and 2 x 512 columns over the whole depth."""
    out, depth = _out(left, right), left.shape[0]
    for m in range(0, left.shape[1], m_tiles * M):
        lefts = [_tile(left, k, m, K, m_tiles * M) for k in range(0, depth, K)]
        for n in range(0, right.shape[1], n_tiles * N):
            rights = [_tile(right, k, n, K, n_tiles * N) for k in range(0, depth, K)]
            for i in range(m_tiles):
                for j in range(n_tiles):
                    psum = nl.ndarray((M, N), nl.float32, buffer=nl.psum)
                    for a, b in zip(lefts, rights, strict=True):
                        nisa.nc_matmul(psum, a[:, i * M : (i + 1) * M], b[:, j * N : (j + 1) * N])
                    _evict(out, psum, m + i * M, n + j * N)
    return out


def blocked(left: Any, right: Any, m_tiles: int = 16, n_tiles: int = 2, k_tiles: int = 8) -> Any:
    """Blocks of 16 x 128 rows, 2 x 512 columns and 8 x 128 of the depth, whose results add up in SBUF."""
    out, depth = _out(left, right), left.shape[0]
    for n in range(0, right.shape[1], n_tiles * N):
        for m in range(0, left.shape[1], m_tiles * M):
            sums: dict[tuple[int, int], Any] = {}
            for k in range(0, depth, k_tiles * K):
                lefts = [_tile(left, k + i * K, m, K, m_tiles * M) for i in range(k_tiles)]
                rights = [_tile(right, k + i * K, n, K, n_tiles * N) for i in range(k_tiles)]
                for i in range(m_tiles):
                    for j in range(n_tiles):
                        psum = nl.ndarray((M, N), nl.float32, buffer=nl.psum)
                        for a, b in zip(lefts, rights, strict=True):
                            nisa.nc_matmul(psum, a[:, i * M : (i + 1) * M], b[:, j * N : (j + 1) * N])
                        _add(sums, (m + i * M, n + j * N), psum)
            for (row, column), total in sums.items():
                tile = nl.ndarray((M, N), out.dtype)
                nisa.activation(tile, nl.copy, total)
                nisa.dma_copy(out[row : row + M, column : column + N], tile)
    return out


def _add(sums: dict[tuple[int, int], Any], place: tuple[int, int], psum: Any) -> None:
    if place in sums:
        nisa.tensor_tensor(sums[place], sums[place], psum, nl.add)
    else:
        sums[place] = nl.ndarray(psum.shape, nl.float32)
        nisa.tensor_copy(sums[place], psum)


STAGES = (tiled, hoisted, blocked_free, blocked)


def framework(left: Any, right: Any, rows: int = 512) -> Any:
    """A product as a framework's compiler may do it: [m, k] x [k, n], cores share the rows, one layout pass on chip.

    The left operand is transposed on the tensor engine once for a block of rows and stays in SBUF, over all of its
    depth; the right one streams past in blocks of columns. Results add up in PSUM over the whole depth, and are
    evicted by Vector and Scalar in turn. What is loaded for the next block is loaded while this one is multiplied.
    """
    (m, depth), n = left.shape, right.shape[1]
    out = nl.ndarray((m, n), left.dtype, buffer=nl.shared_hbm)
    share = m // nl.num_programs()
    columns = 1024 if depth <= 4096 else 512  # of which two blocks fit beside the other operand
    first = nl.program_id(0) * share
    engines = (nisa.engine.vector, nisa.engine.scalar)
    turned: list[Any] = []
    for row in range(first, first + share, rows):
        turned.clear()  # its memory is needed for the next
        turned += _turned(left, row, rows)
        for column in range(0, n, columns):
            rights = [_tile(right, k, column, K, columns) for k in range(0, depth, K)]
            for i in range(rows // M):
                result = nl.ndarray((M, columns), out.dtype)
                for j in range(columns // N):
                    psum = nl.ndarray((M, N), nl.float32, buffer=nl.psum)
                    for at, b in enumerate(rights):
                        nisa.nc_matmul(psum, turned[at][:, i * M : (i + 1) * M], b[:, j * N : (j + 1) * N])
                    nisa.tensor_copy(result[:, j * N : (j + 1) * N], psum, engine=engines[(i + j) % 2])
                nisa.dma_copy(out[row + i * M : row + (i + 1) * M, column : column + columns], result)
    return out


def _turned(left: Any, row: int, rows: int) -> list[Any]:
    """A block of rows with the depth on partitions: for each 128 of it, [128, rows]."""
    depth = left.shape[1]
    found = [nl.ndarray((K, rows), left.dtype) for _ in range(0, depth, K)]
    for i in range(rows // M):
        tile = _tile(left, row + i * M, 0, M, depth)
        for at in range(depth // K):
            psum = nl.ndarray((K, M), left.dtype, buffer=nl.psum)
            nisa.nc_transpose(psum, tile[:, at * K : (at + 1) * K], engine=nisa.engine.tensor)
            nisa.tensor_copy(found[at][:, i * M : (i + 1) * M], psum, engine=nisa.engine.vector)
    return found
