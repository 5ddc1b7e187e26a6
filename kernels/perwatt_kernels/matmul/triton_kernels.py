"""Products in Triton: one program a tile, a persistent one whose tiles come by descriptors, and the sum of splits.

``C = after(scale_a scale_b (A B) + bias)``, sums in float32. Programs take tiles in bands of some rows of tiles, so
that what runs at one time shares operands in the L2 cache. Extents that are no multiple of a tile are masked in the
kernel of pointers, and only there; descriptors read zeros beyond the end and write nothing.

Only built-ins of the language are used, none of its functions that are themselves compiled: those are interpreted or
not from when Triton is first imported, kernels from when this module is.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _place(index, tiles_m, tiles_n, GROUP: tl.constexpr):
    """Row and column of the tile with an index: along bands of GROUP rows of tiles, down each column of a band."""
    band = GROUP * tiles_n
    first = (index // band) * GROUP
    height = tl.minimum(tiles_m - first, GROUP)
    return first + (index % band) % height, (index % band) // height


@triton.jit
def _times(x, y, total, PRECISION: tl.constexpr, IMPRECISE: tl.constexpr, INTERPRETED: tl.constexpr):
    """``total + x y``. Triton 3.9's interpreter multiplies the bits of bfloat16 as integers: there both are widened."""
    if INTERPRETED:
        total = tl.dot(x.to(tl.float32), y.to(tl.float32), total, input_precision="ieee")
    else:
        total = tl.dot(x, y, total, input_precision=PRECISION, max_num_imprecise_acc=IMPRECISE)
    return total


@triton.jit
def _rounded(total, FORMAT: tl.constexpr, INTERPRETED: tl.constexpr):
    """Float32 in the format of the result. Triton 3.9's interpreter only cuts bits off for bfloat16."""
    if INTERPRETED and tl.bfloat16 == FORMAT:
        bits = total.to(tl.int32, bitcast=True)
        number = (bits & 0x7F800000) != 0x7F800000
        up = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
        total = tl.where(number, up, bits).to(tl.float32, bitcast=True)
    return total.to(FORMAT)


@triton.jit
def _finished(
    total, bias, scale_a, scale_b, rows, columns, m, n, batch,
    SCALES: tl.constexpr, BIAS: tl.constexpr, AFTER: tl.constexpr, BLOCK_M: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """A tile of sums after the epilogue, in float32."""
    if SCALES == "tensor":
        total = total * (tl.load(scale_a + batch) * tl.load(scale_b + batch))
    if SCALES == "row":
        left = tl.load(scale_a + batch * m + rows, mask=rows < m, other=0.0)
        right = tl.load(scale_b + batch * n + columns, mask=columns < n, other=0.0)
        total = total * left[:, None] * right[None, :]
    if BIAS:
        total += tl.load(bias + columns, mask=columns < n, other=0.0).to(tl.float32)[None, :]
    if AFTER == "gelu_tanh":  # (1 + tanh u) / 2 is the logistic function of 2 u
        twice = 1.5957691216057308 * (total + 0.044715 * total * total * total)
        total = total * (1.0 / (1.0 + tl.exp(-twice)))
    if AFTER == "swiglu":  # columns are gate and up by turns: neighbours, which one thread has
        gate, up = tl.split(tl.reshape(total, (BLOCK_M, HALF, 2)))
        total = gate * (1.0 / (1.0 + tl.exp(-gate))) * up
    return total


@triton.jit
def perwatt_matmul(
    a, b, c, bias, scale_a, scale_b, m, n, k, a_batch, a_row, a_depth, b_batch, b_depth, b_column,
    c_split, c_batch, c_row,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr, SPLITS: tl.constexpr,
    EVEN_M: tl.constexpr, EVEN_N: tl.constexpr, EVEN_K: tl.constexpr, SCALES: tl.constexpr, BIAS: tl.constexpr,
    AFTER: tl.constexpr, PRECISION: tl.constexpr, IMPRECISE: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """One tile of one split of one product: ``a`` is [batch, m, k], ``b`` is [batch, k, n], in any strides.

    With splits ``c`` is [splits, batch, m, n] in float32, sums without epilogue; else [batch, m, n or n / 2].
    """
    tiles_m, tiles_n = (m + BLOCK_M - 1) // BLOCK_M, (n + BLOCK_N - 1) // BLOCK_N
    tiles, program = tiles_m * tiles_n, tl.program_id(0)
    row, column = _place(program % tiles, tiles_m, tiles_n, GROUP)
    split = (program // tiles) % SPLITS
    batch = tl.cast(program // (tiles * SPLITS), tl.int64)
    rows, columns = row * BLOCK_M + tl.arange(0, BLOCK_M), column * BLOCK_N + tl.arange(0, BLOCK_N)
    row_in, column_in = rows < m, columns < n
    share = ((k + BLOCK_K - 1) // BLOCK_K + SPLITS - 1) // SPLITS * BLOCK_K
    begin = split * share
    depth = begin + tl.arange(0, BLOCK_K)
    wide_depth = tl.cast(depth, tl.int64)
    a_at = a + batch * a_batch + tl.cast(rows, tl.int64)[:, None] * a_row + wide_depth[None, :] * a_depth
    b_at = b + batch * b_batch + wide_depth[:, None] * b_depth + tl.cast(columns, tl.int64)[None, :] * b_column
    a_step, b_step = tl.cast(a_depth, tl.int64) * BLOCK_K, tl.cast(b_depth, tl.int64) * BLOCK_K
    total = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    for start in range(begin, tl.minimum(k, begin + share), BLOCK_K):
        if EVEN_K:
            x = tl.load(a_at) if EVEN_M else tl.load(a_at, mask=row_in[:, None], other=0.0)
            y = tl.load(b_at) if EVEN_N else tl.load(b_at, mask=column_in[None, :], other=0.0)
        else:
            inside = start + tl.arange(0, BLOCK_K) < k
            x = tl.load(a_at, mask=row_in[:, None] & inside[None, :], other=0.0)
            y = tl.load(b_at, mask=inside[:, None] & column_in[None, :], other=0.0)
        total = _times(x, y, total, PRECISION, IMPRECISE, INTERPRETED)
        a_at += a_step
        b_at += b_step
    c_at = c + batch * c_batch
    if SPLITS == 1:
        total = _finished(
            total, bias, scale_a, scale_b, rows, columns, m, n, batch, SCALES, BIAS, AFTER, BLOCK_M, BLOCK_N // 2
        )  # fmt: skip
    else:
        c_at += tl.cast(split, tl.int64) * c_split
    _store(c_at, total, rows, row_in, column, c_row, n, AFTER if SPLITS == 1 else "none", BLOCK_N, INTERPRETED)


@triton.jit
def _store(
    c_at, total, rows, row_in, column, c_row, n, AFTER: tl.constexpr, BLOCK_N: tl.constexpr, INTERPRETED: tl.constexpr
):  # fmt: skip
    """Write a tile of results at column ``column`` of tiles, rounded to the format of the result."""
    WIDTH: tl.constexpr = BLOCK_N // 2 if AFTER == "swiglu" else BLOCK_N
    columns = column * WIDTH + tl.arange(0, WIDTH)
    column_in = columns < (n // 2 if AFTER == "swiglu" else n)
    at = c_at + tl.cast(rows, tl.int64)[:, None] * c_row + columns[None, :]
    tl.store(at, _rounded(total, c_at.dtype.element_ty, INTERPRETED), mask=row_in[:, None] & column_in[None, :])


@triton.jit
def perwatt_matmul_sum(
    parts, c, bias, scale_a, scale_b, m, n, parts_split, parts_batch, c_batch, c_row,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, SPLITS: tl.constexpr, SCALES: tl.constexpr, BIAS: tl.constexpr,
    AFTER: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """The sum of splits, always in the same order, then the epilogue; ``parts`` is [splits, batch, m, n] in float32."""
    tiles_m, tiles_n = (m + BLOCK_M - 1) // BLOCK_M, (n + BLOCK_N - 1) // BLOCK_N
    tiles, program = tiles_m * tiles_n, tl.program_id(0)
    row, column = (program % tiles) // tiles_n, program % tiles_n
    batch = tl.cast(program // tiles, tl.int64)
    rows, columns = row * BLOCK_M + tl.arange(0, BLOCK_M), column * BLOCK_N + tl.arange(0, BLOCK_N)
    row_in, inside = rows < m, (rows < m)[:, None] & (columns < n)[None, :]
    at = parts + batch * parts_batch + tl.cast(rows, tl.int64)[:, None] * n + columns[None, :]
    total = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
    for split in range(SPLITS):
        total += tl.load(at + tl.cast(split, tl.int64) * parts_split, mask=inside, other=0.0)
    total = _finished(
        total, bias, scale_a, scale_b, rows, columns, m, n, batch, SCALES, BIAS, AFTER, BLOCK_M, BLOCK_N // 2
    )  # fmt: skip
    _store(c + batch * c_batch, total, rows, row_in, column, c_row, n, AFTER, BLOCK_N, INTERPRETED)


@triton.jit
def perwatt_matmul_tma(
    a, b, c, bias, scale_a, scale_b, m, n, k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr, SPLITS: tl.constexpr,
    A_TURNED: tl.constexpr, B_TURNED: tl.constexpr, HALVES: tl.constexpr, SCALES: tl.constexpr, BIAS: tl.constexpr,
    AFTER: tl.constexpr, PRECISION: tl.constexpr, IMPRECISE: tl.constexpr, INTERPRETED: tl.constexpr,
    SPECIALIZE: tl.constexpr,
):  # fmt: skip
    """Tiles by descriptors: as many programs as run at once, each taking tile after tile of one product.

    ``a`` describes [m, k], or [k, m] where turned; ``b`` [k, n], or [n, k] where turned; ``c`` the result, with splits
    [splits m, n] in float32, where m is a multiple of the tile's. A split of the depth that goes beyond it reads zeros.
    The loop over tiles is flattened into that over the depth, so that loads of the next tile begin while one is stored;
    a second count of tiles keeps what is stored from depending on what is loaded.
    """
    tiles_m, tiles_n = (m + BLOCK_M - 1) // BLOCK_M, (n + BLOCK_N - 1) // BLOCK_N
    tiles, programs = tiles_m * tiles_n, tl.num_programs(0)
    steps = ((k + BLOCK_K - 1) // BLOCK_K + SPLITS - 1) // SPLITS
    stored = tl.program_id(0) - programs
    for index in tl.range(
        tl.program_id(0), tiles * SPLITS, programs, flatten=True, warp_specialize=SPECIALIZE
    ):  # fmt: skip
        row, column = _place(index % tiles, tiles_m, tiles_n, GROUP)
        begin = (index // tiles) * steps
        total = tl.full((BLOCK_M, BLOCK_N), 0.0, tl.float32)
        for step in range(steps):
            at = (begin + step) * BLOCK_K
            x = a.load([at, row * BLOCK_M]).T if A_TURNED else a.load([row * BLOCK_M, at])
            y = b.load([column * BLOCK_N, at]).T if B_TURNED else b.load([at, column * BLOCK_N])
            total = _times(x, y, total, PRECISION, IMPRECISE, INTERPRETED)
        stored += programs
        row, column = _place(stored % tiles, tiles_m, tiles_n, GROUP)
        rows, columns = row * BLOCK_M + tl.arange(0, BLOCK_M), column * BLOCK_N + tl.arange(0, BLOCK_N)
        down = row * BLOCK_M
        if SPLITS == 1:
            total = _finished(
                total, bias, scale_a, scale_b, rows, columns, m, n, 0, SCALES, BIAS, AFTER, BLOCK_M, BLOCK_N // 2
            )  # fmt: skip
        else:
            down += (stored // tiles) * m
        WIDTH: tl.constexpr = BLOCK_N // 2 if AFTER == "swiglu" and SPLITS == 1 else BLOCK_N
        if HALVES:  # each half of the columns by itself: half the shared memory for the way out
            first, second = tl.split(tl.permute(tl.reshape(total, (BLOCK_M, 2, WIDTH // 2)), (0, 2, 1)))
            c.store([down, column * WIDTH], _rounded(first, c.dtype, INTERPRETED))
            c.store([down, column * WIDTH + WIDTH // 2], _rounded(second, c.dtype, INTERPRETED))
        else:
            c.store([down, column * WIDTH], _rounded(total, c.dtype, INTERPRETED))
