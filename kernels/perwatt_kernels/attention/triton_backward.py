"""Flash attention in Triton, backward: weights are computed again from the log-sum-exp of the forward.

With S the scores, P the weights, dO the gradient of the result O and dP = dO V^T, the gradient of scores is
dS = P * (dP - delta), delta the row sums of dO * O (Dao et al. 2022); then dV = P^T dO, dK = dS^T Q and dQ = dS K.
One kernel goes over queries for a tile of keys, one over keys for a tile of queries; so each gradient is summed by one
program in a fixed order, no atomics are needed and results are the same, bit by bit, every time. The queries of all
heads that share a head of keys go by one program too, or by a few that write sums of their own.

That computes scores and dP twice: seven products for the five that are needed. Where the order of sums may change from
run to run, the first kernel also adds dQ to float32 in memory, by atomics, and the second is left out.

Queries beyond an end have log-sum-exp +inf, so their weights are zero; keys beyond it are zero where they are loaded.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

from perwatt_kernels.attention.triton_tile import (
    GRID,
    LOG2E,
    add,
    keys_seen,
    load,
    place,
    product,
    queries_seeing,
    rounded,
    sees,
    store,
    turn,
)


@triton.jit
def perwatt_attention_delta(
    out, d_out, delta, out_strides, d_out_strides, heads, q_len, tiles, DIM: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Row sums of dO * O, float32 [batch, heads, q_len]."""
    head = tl.program_id(0) // tiles
    batch, own = head // heads, head % heads
    first = tl.program_id(0) % tiles * ROWS
    a = load(out, out_strides, batch, own, first, q_len, ROWS, WIDTH, DIM, True, False)
    b = load(d_out, d_out_strides, batch, own, first, q_len, ROWS, WIDTH, DIM, True, False)
    rows = first + tl.arange(0, ROWS)
    at = delta + tl.cast(head, tl.int64) * q_len + rows
    tl.store(at, tl.sum(a.to(tl.float32) * b.to(tl.float32), 1), mask=rows < q_len)


@triton.jit(do_not_specialize=GRID)
def perwatt_attention_backward_keys(
    q, k, v, d_out, lse, delta, dk, dv, dq, table, q_strides, k_strides, v_strides, d_out_strides, dk_strides,
    dv_strides, dq_strides, heads, kv_heads, all_heads, q_len, kv_len, tiles, section, splits, scale,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, PACKED: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TAIL: tl.constexpr, TMA: tl.constexpr,
    ATOMIC: tl.constexpr,
):  # fmt: skip
    """Gradients of one tile of keys and values, summed over queries of the heads that share it.

    ``dk`` and ``dv`` are [batch, kv_heads, kv_len, DIM]; where ``splits`` programs share the heads of a tile among
    them, [batch, kv_heads x splits, kv_len, DIM]; ``all_heads`` are these, of all sequences. A step has ROWS queries,
    the tile COLUMNS keys. Where they are ATOMIC, gradients of queries over the scale are added to ``dq``, float32
    [batch, heads, q_len, DIM], a descriptor or a pointer. The rest is as in the forward.
    """
    tile, target = turn(tiles, all_heads, section)
    batch, target = target // (kv_heads * splits), target % (kv_heads * splits)
    kv_head, share = target // splits, heads // (kv_heads * splits)
    first, start, end = place(table, tile, tiles, kv_len, COLUMNS, PACKED, False)
    last = end if PACKED else q_len
    keys = load(k, k_strides, batch, kv_head, first, end, COLUMNS, WIDTH, DIM, TAIL, TMA)
    values = load(v, v_strides, batch, kv_head, first, end, COLUMNS, WIDTH, DIM, TAIL, TMA)
    low, left, right, high = queries_seeing(first, start, last, COLUMNS, ROWS, CAUSAL, WINDOW)
    d_keys = tl.zeros([COLUMNS, WIDTH], tl.float32)
    d_values = tl.zeros([COLUMNS, WIDTH], tl.float32)
    for head in range(target * share, (target + 1) * share):
        statistics = tl.cast(batch * heads + head, tl.int64) * q_len
        for part in tl.static_range(0 if CAUSAL or WINDOW else 1, 3 if WINDOW else 2):
            if part == 0:
                begin, stop = low, left
            elif part == 1:
                begin, stop = left, right if WINDOW else high
            else:
                begin, stop = right, high
            d_keys, d_values = _over_queries(
                d_keys, d_values, keys, values, q, d_out, lse + statistics, delta + statistics, dq, q_strides,
                d_out_strides, dq_strides, batch, head, first, begin, stop, last, scale * LOG2E, CAUSAL, WINDOW, DIM,
                WIDTH, ROWS, COLUMNS, part != 1, TAIL, TMA, ATOMIC,
            )  # fmt: skip
    store(d_keys * scale, dk, dk_strides, batch, target, first, end, COLUMNS, WIDTH, DIM, TAIL)
    store(d_values, dv, dv_strides, batch, target, first, end, COLUMNS, WIDTH, DIM, TAIL)


@triton.jit
def _over_queries(
    d_keys, d_values, keys, values, q, d_out, lse, delta, dq, q_strides, d_out_strides, dq_strides, batch, head, first,
    low, high, end, scale, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, MASKED: tl.constexpr, TAIL: tl.constexpr, TMA: tl.constexpr,
    ATOMIC: tl.constexpr,
):  # fmt: skip
    """Add what queries from ``low`` to ``high`` of a head give. Tiles are turned: keys down, queries across."""
    for at in tl.range(low, high, ROWS):
        queries = load(q, q_strides, batch, head, at, end, ROWS, WIDTH, DIM, TAIL, TMA)
        rows = at + tl.arange(0, ROWS)
        sums = _statistic(lse, rows, end, float("inf"), TAIL)
        scores = product(keys, queries.T, tl.zeros([COLUMNS, ROWS], tl.float32))
        weights = tl.exp2(scores * scale - (sums * LOG2E)[None, :])
        if MASKED:  # keys beyond the end are rows that nobody stores
            columns = first + tl.arange(0, COLUMNS)
            seen = sees(rows[None, :], columns[:, None], first + COLUMNS, CAUSAL, WINDOW)
            weights = tl.where(seen, weights, 0.0)
        incoming = load(d_out, d_out_strides, batch, head, at, end, ROWS, WIDTH, DIM, TAIL, TMA)
        d_values = product(rounded(weights, incoming.dtype), incoming, d_values)
        means = _statistic(delta, rows, end, 0.0, TAIL)
        d_weights = product(values, incoming.T, tl.zeros([COLUMNS, ROWS], tl.float32))
        d_scores = rounded(weights * (d_weights - means[None, :]), queries.dtype)
        d_keys = product(d_scores, queries, d_keys)
        if ATOMIC:
            d_queries = product(d_scores.T, keys, tl.zeros([ROWS, WIDTH], tl.float32))
            add(d_queries, dq, dq_strides, batch, head, at, end, ROWS, WIDTH, DIM, TAIL, TMA)
    return d_keys, d_values


@triton.jit(do_not_specialize=GRID)
def perwatt_attention_backward_queries(
    q, k, v, d_out, lse, delta, dq, table, q_strides, k_strides, v_strides, d_out_strides, dq_strides, heads, group,
    all_heads, q_len, kv_len, tiles, section, scale, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, PACKED: tl.constexpr,
    DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TAIL: tl.constexpr,
    TMA: tl.constexpr,
):  # fmt: skip
    """Gradient of one tile of queries of one head. ROWS, COLUMNS: queries of the tile, keys of a step."""
    tile, head = turn(tiles, all_heads, section)
    batch, head = head // heads, head % heads
    first, start, end = place(table, tile, tiles, q_len, ROWS, PACKED, CAUSAL)
    last = end if PACKED else kv_len
    queries = load(q, q_strides, batch, head, first, end, ROWS, WIDTH, DIM, TAIL, TMA)
    incoming = load(d_out, d_out_strides, batch, head, first, end, ROWS, WIDTH, DIM, TAIL, TMA)
    statistics = tl.cast(batch * heads + head, tl.int64) * q_len
    rows = first + tl.arange(0, ROWS)
    sums = _statistic(lse + statistics, rows, end, float("inf"), TAIL) * LOG2E
    means = _statistic(delta + statistics, rows, end, 0.0, TAIL)
    low, left, right, high = keys_seen(first, start, last, ROWS, COLUMNS, CAUSAL, WINDOW)
    d_queries = tl.zeros([ROWS, WIDTH], tl.float32)
    for part in tl.static_range(0 if WINDOW else 1, 3 if CAUSAL or WINDOW or TAIL else 2):
        if part == 0:
            begin, stop = low, left
        elif part == 1:
            begin, stop = left, right
        else:
            begin, stop = right, high
        d_queries = _over_keys(
            d_queries, queries, incoming, sums, means, k, v, k_strides, v_strides, batch, head // group, rows, begin,
            stop, last, scale * LOG2E, CAUSAL, WINDOW, DIM, WIDTH, ROWS, COLUMNS, part != 1, TAIL and part != 1, TMA,
        )  # fmt: skip
    store(d_queries * scale, dq, dq_strides, batch, head, first, end, ROWS, WIDTH, DIM, TAIL)


@triton.jit
def _over_keys(
    d_queries, queries, incoming, sums, means, k, v, k_strides, v_strides, batch, head, rows, low, high, end, scale,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, DIM: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, MASKED: tl.constexpr, TAIL: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """Add what keys from ``low`` to ``high`` give."""
    for at in tl.range(low, high, COLUMNS):
        keys = load(k, k_strides, batch, head, at, end, COLUMNS, WIDTH, DIM, TAIL, TMA)
        values = load(v, v_strides, batch, head, at, end, COLUMNS, WIDTH, DIM, TAIL, TMA)
        scores = product(queries, keys.T, tl.zeros([ROWS, COLUMNS], tl.float32))
        weights = tl.exp2(scores * scale - sums[:, None])
        if MASKED:
            columns = at + tl.arange(0, COLUMNS)
            weights = tl.where(sees(rows[:, None], columns[None, :], end, CAUSAL, WINDOW), weights, 0.0)
        d_weights = product(incoming, values.T, tl.zeros([ROWS, COLUMNS], tl.float32))
        d_scores = weights * (d_weights - means[:, None])
        d_queries = product(rounded(d_scores, keys.dtype), keys, d_queries)
    return d_queries


@triton.jit
def _statistic(source, rows, end, other, TAIL: tl.constexpr):
    return tl.load(source + rows, mask=rows < end, other=other) if TAIL else tl.load(source + rows)
