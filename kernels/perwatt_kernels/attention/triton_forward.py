"""Flash attention in Triton, forward: scores of a tile of queries are never all in memory.

For each tile of queries, keys and values go by in steps. Maximum and sum of the softmax are kept in float32, and what
was summed before is rescaled as the maximum grows (Milakov and Gimelshein 2018; Dao et al. 2022). Steps that all
queries of the tile see whole have no mask; only those on the diagonal, at a window's edge and at the end have one.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

from perwatt_kernels.attention.triton_tile import (
    GRID,
    LOG2E,
    keys_seen,
    load,
    place,
    product,
    rounded,
    sees,
    store,
    turn,
)


@triton.jit(do_not_specialize=GRID)
def perwatt_attention_forward(
    q, k, v, q_scales, k_scales, v_scales, out, lse, table, q_strides, k_strides, v_strides, out_strides, heads, group,
    all_heads, q_len, kv_len, tiles, section, scale, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, PACKED: tl.constexpr,
    DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TAIL: tl.constexpr,
    TMA: tl.constexpr, SHIFT: tl.constexpr,
):  # fmt: skip
    """One tile of queries of one head.

    ``q``, ``k`` and ``v`` are descriptors or pointers of [batch, heads or kv_heads, length, DIM], ``out`` points to
    [batch, heads, q_len, DIM] and ``lse`` to float32 [batch, heads, q_len], contiguous: the natural logarithms of sums
    of exponentials. ``table`` is that of tiles where documents are packed; ``tiles`` of a head, ``all_heads`` of all
    sequences, ``section`` of :func:`turn`. WIDTH is DIM up to a power of two; the tile has ROWS queries, a step
    COLUMNS keys, and TAIL says whether they may reach beyond an end.

    Operands in 8 bits have scales, float32 [batch, heads or kv_heads], contiguous. Weights are kept in 8 bits then, and
    2^SHIFT times what they are, so that the smaller ones are not lost; the sum of weights has the same factor.
    """
    tile, head = turn(tiles, all_heads, section)
    batch = head // heads
    head = head % heads
    first, start, end = place(table, tile, tiles, q_len, ROWS, PACKED, CAUSAL)
    last = end if PACKED else kv_len
    queries = load(q, q_strides, batch, head, first, end, ROWS, WIDTH, DIM, TAIL, TMA)
    low, left, right, high = keys_seen(first, start, last, ROWS, COLUMNS, CAUSAL, WINDOW)
    scale = scale * LOG2E
    if SHIFT:
        here = batch * (heads // group) + head // group
        scale = scale * tl.load(q_scales + batch * heads + head) * tl.load(k_scales + here)
    most = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, WIDTH], tl.float32)
    for part in tl.static_range(0 if WINDOW else 1, 3 if CAUSAL or WINDOW or TAIL else 2):
        if part == 0:
            begin, stop = low, left
        elif part == 1:
            begin, stop = left, right
        else:
            begin, stop = right, high
        acc, total, most = _attend(
            acc, total, most, queries, k, v, k_strides, v_strides, batch, head // group, first, begin, stop, last,
            scale, CAUSAL, WINDOW, DIM, WIDTH, ROWS, COLUMNS, part != 1, TAIL and part != 1, TMA, SHIFT,
        )  # fmt: skip
    acc = acc / total[:, None]
    if SHIFT:
        acc = acc * tl.load(v_scales + here)
    store(acc, out, out_strides, batch, head, first, end, ROWS, WIDTH, DIM, TAIL)
    rows = first + tl.arange(0, ROWS)
    at = lse + tl.cast(batch * heads + head, tl.int64) * q_len + rows
    tl.store(at, (most + tl.log2(total) - SHIFT) / LOG2E, mask=rows < end)


@triton.jit
def _attend(
    acc, total, most, queries, k, v, k_strides, v_strides, batch, head, first, low, high, end, scale,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, MASKED: tl.constexpr, TAIL: tl.constexpr, TMA: tl.constexpr,
    SHIFT: tl.constexpr,
):  # fmt: skip
    """Keys from ``low`` to ``high``: the sum of weighted values, the sum of weights, the highest score."""
    for at in tl.range(low, high, COLUMNS):
        keys = load(k, k_strides, batch, head, at, end, COLUMNS, WIDTH, DIM, TAIL, TMA)
        scores = product(queries, keys.T, tl.zeros([ROWS, COLUMNS], tl.float32))
        if MASKED:
            rows, columns = first + tl.arange(0, ROWS)[:, None], at + tl.arange(0, COLUMNS)[None, :]
            scores = tl.where(sees(rows, columns, end, CAUSAL, WINDOW), scores, float("-inf"))
        highest = tl.maximum(most, tl.max(scores, 1) * scale)
        base = tl.where(highest == float("-inf"), 0.0, highest)  # of a query that has seen no key yet
        weights = tl.exp2(scores * scale - (base - SHIFT)[:, None])
        shrink = tl.exp2(most - base)
        total = total * shrink + tl.sum(weights, 1)
        acc = acc * shrink[:, None]
        values = load(v, v_strides, batch, head, at, end, COLUMNS, WIDTH, DIM, TAIL, TMA)
        acc = product(rounded(weights, values.dtype), values, acc)
        most = highest
    return acc, total, most
