"""Flash attention in Gluon for Hopper, backward: what FlashAttention 3 lays out (Shah et al. 2024).

The formulas are those of :mod:`perwatt_kernels.attention.triton_backward`. A program has a tile of keys and goes over
the queries of the heads that share it, five products a step. One warp copies keys and values once, and queries,
incoming gradients and statistics into rings, by the tensor memory accelerator. Eight warps, two warp groups, multiply:
scores and weights are turned, keys down and queries across, so that they are operands in registers of the products
that sum dV and dK; dS alone passes shared memory, for dQ, which is added to float32 by atomics in no order.

Products of a step overlap with the arithmetic of it and the next: S of the next step is issued before dQ and dK of this
one, dP of the next before dK of this one has ended, and dV before dP is awaited.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_init,
    warpgroup_mma_wait,
)

LOG2E = gl.constexpr(1.4426950408889634)
WARPS = gl.constexpr(8)


@gluon.jit
def perwatt_attention_backward_gluon(
    q, k, v, d_out, lse, delta, dk, dv, dq, dk_strides, dv_strides, heads, kv_heads, all_heads, q_len, kv_len, tiles,
    section, splits, scale, CAUSAL: gl.constexpr, WIDTH: gl.constexpr, ROWS: gl.constexpr, COLUMNS: gl.constexpr,
    STAGES: gl.constexpr, TAIL: gl.constexpr, SPARE: gl.constexpr,
):  # fmt: skip
    """Gradients of one tile of keys and values, and its share of those of queries."""
    tile: gl.constexpr = [1, 1, ROWS, WIDTH]
    keys = gl.allocate_shared_memory(k.dtype, [1, 1, COLUMNS, WIDTH], k.layout)
    values = gl.allocate_shared_memory(v.dtype, [1, 1, COLUMNS, WIDTH], v.layout)
    queries = gl.allocate_shared_memory(q.dtype, [STAGES, 1, 1, ROWS, WIDTH], q.layout)
    incoming = gl.allocate_shared_memory(d_out.dtype, [STAGES, 1, 1, ROWS, WIDTH], d_out.layout)
    sums = gl.allocate_shared_memory(gl.float32, [STAGES, ROWS], lse.layout)
    means = gl.allocate_shared_memory(gl.float32, [STAGES, ROWS], delta.layout)
    once = gl.allocate_shared_memory(gl.int64, [1, 1], mbarrier.MBarrierLayout())
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    mbarrier.init(once.index(0), count=1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=1)
    fence_async_shared()

    number = gl.program_id(0) // (tiles * section)
    within = gl.program_id(0) - number * tiles * section
    across = gl.minimum(section, all_heads - number * section)
    first = within // across * COLUMNS
    target = number * section + within % across
    batch = target // (kv_heads * splits)
    target = target % (kv_heads * splits)
    share = heads // (kv_heads * splits)
    start = first // ROWS * ROWS if CAUSAL else 0
    steps = gl.maximum(gl.cdiv(q_len - start, ROWS), 1)
    gl.warp_specialize(
        [
            (_multiply, (
                keys, values, queries, incoming, sums, means, once, full, empty, dk, dv, dq,
                dk_strides, dv_strides, batch, target, target * share, share, heads, first, start, steps, q_len, kv_len, scale, CAUSAL, WIDTH, ROWS,
                COLUMNS, STAGES, TAIL,
            )),
            (_copy, (
                q, k, v, d_out, lse, delta, keys, values, queries, incoming, sums, means, once, full, empty, batch, target // splits, target * share, share, heads, first, start, steps, q_len, ROWS, STAGES,
            )),
        ],
        [1],
        [SPARE],
    )


@gluon.jit
def _copy(
    q, k, v, d_out, lse, delta, keys, values, queries, incoming, sums, means, once, full, empty,
    batch, kv_head, head, share, heads, first, start, steps, q_len, ROWS: gl.constexpr, STAGES: gl.constexpr,
):
    mbarrier.expect(once.index(0), k.block_type.nbytes + v.block_type.nbytes)
    tma.async_copy_global_to_shared(k, [batch, kv_head, first, 0], once.index(0), keys)
    tma.async_copy_global_to_shared(v, [batch, kv_head, first, 0], once.index(0), values)
    for step in range(share * steps):
        stage = step % STAGES
        phase = (step // STAGES & 1) ^ 1
        own = head + step // steps
        at = start + step % steps * ROWS
        row = (batch * heads + own) * q_len + at
        mbarrier.wait(empty.index(stage), phase)
        mbarrier.expect(
            full.index(stage),
            q.block_type.nbytes + d_out.block_type.nbytes + lse.block_type.nbytes + delta.block_type.nbytes,
        )
        tma.async_copy_global_to_shared(q, [batch, own, at, 0], full.index(stage), queries.index(stage))
        tma.async_copy_global_to_shared(lse, [row], full.index(stage), sums.index(stage))
        tma.async_copy_global_to_shared(d_out, [batch, own, at, 0], full.index(stage), incoming.index(stage))
        tma.async_copy_global_to_shared(delta, [row], full.index(stage), means.index(stage))


@gluon.jit
def _multiply(
    keys, values, queries, incoming, sums, means, once, full, empty, dk, dv, dq, dk_strides,
    dv_strides, batch, target, head, share, heads, first, start, steps, q_len, kv_len, scale, CAUSAL: gl.constexpr, WIDTH: gl.constexpr,
    ROWS: gl.constexpr, COLUMNS: gl.constexpr, STAGES: gl.constexpr, TAIL: gl.constexpr,
):
    scored: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [8, 1], [16, ROWS, 16])
    summed: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [8, 1], [16, WIDTH, 16])
    apart: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 2], [16, WIDTH // 2, 16]) if ROWS == 64 else summed
    operand: gl.constexpr = gl.DotOperandLayout(0, summed, 2)
    form: gl.constexpr = keys.dtype
    turned = gl.allocate_shared_memory(form, [COLUMNS, ROWS], gl.NVMMASharedLayout.get_default_for([COLUMNS, ROWS], form))
    keys = keys.reshape([COLUMNS, WIDTH])
    values = values.reshape([COLUMNS, WIDTH])
    blank = gl.zeros([COLUMNS, ROWS], gl.float32, scored)
    none = gl.zeros([ROWS, WIDTH], gl.float32, apart)
    d_keys = warpgroup_mma_init(gl.zeros([COLUMNS, WIDTH], gl.float32, summed))
    d_values = gl.zeros([COLUMNS, WIDTH], gl.float32, summed)
    columns = first + gl.arange(0, COLUMNS, gl.SliceLayout(1, scored))
    across = gl.arange(0, ROWS, gl.SliceLayout(0, scored))
    rows = gl.arange(0, ROWS, gl.SliceLayout(1, apart))
    places = rows[:, None] * WIDTH + gl.arange(0, WIDTH, gl.SliceLayout(0, apart))[None, :]
    dq = dq + (gl.cast(batch * heads + head, gl.int64) * q_len + start) * WIDTH
    at = start
    mbarrier.wait(once.index(0), 0)
    for step in range(share * steps):
        stage = step % STAGES
        mbarrier.wait(full.index(stage), step // STAGES & 1)
        asked = queries.index(stage).reshape([ROWS, WIDTH])
        given = incoming.index(stage).reshape([ROWS, WIDTH])
        scores = warpgroup_mma(keys, asked.permute((1, 0)), blank, use_acc=False, is_async=True)
        d_weights = warpgroup_mma(values, given.permute((1, 0)), blank, use_acc=False, is_async=True)
        d_keys = warpgroup_mma_wait(2, deps=[d_keys])
        mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), pred=step > 0)
        lse = sums.index(stage).load(gl.SliceLayout(0, scored)) * LOG2E
        scores = warpgroup_mma_wait(1, deps=[scores])
        weights = gl.exp2(scores * (scale * LOG2E) - lse[None, :])
        delta = means.index(stage).load(gl.SliceLayout(0, scored))
        masked = (at + ROWS > q_len) | (first + COLUMNS > kv_len)
        if CAUSAL:
            masked = masked | (at < first + COLUMNS - 1)
        if masked:
            seen = (columns < kv_len)[:, None] & (at + across < q_len)[None, :]
            if CAUSAL:
                seen = seen & ((at + across)[None, :] >= columns[:, None])
            weights = gl.where(seen, weights, 0.0)
            delta = gl.where(at + across < q_len, delta, 0.0)
        d_weights = warpgroup_mma_wait(0, deps=[d_weights])
        d_scores = (weights * (d_weights - delta[None, :])).to(form)
        turned.store(d_scores)
        fence_async_shared()
        d_values = warpgroup_mma(gl.convert_layout(weights.to(form), operand), given, d_values, is_async=True)
        d_queries = warpgroup_mma(turned.permute((1, 0)), keys, none, use_acc=False, is_async=True)
        d_keys = warpgroup_mma(gl.convert_layout(d_scores, operand), asked, d_keys, is_async=True)
        d_queries, d_values = warpgroup_mma_wait(1, deps=[d_queries, d_values])
        if TAIL:
            gl.atomic_add(dq + places, d_queries, mask=(at + rows < q_len)[:, None], sem="relaxed")
        else:
            gl.atomic_add(dq + places, d_queries, sem="relaxed")
        at += ROWS
        dq += ROWS * WIDTH
        if (step + 1) % steps == 0:  # the next head
            at = start
            dq += (q_len - steps * ROWS) * WIDTH
    d_keys = warpgroup_mma_wait(0, deps=[d_keys])
    _store(d_keys * scale, dk, dk_strides, batch, target, first, kv_len, COLUMNS, WIDTH, summed)
    _store(d_values, dv, dv_strides, batch, target, first, kv_len, COLUMNS, WIDTH, summed)


@gluon.jit
def _store(
    sums, target, strides, batch, head, first, end, BLOCK: gl.constexpr, WIDTH: gl.constexpr, LAYOUT: gl.constexpr
):
    rows = first + gl.arange(0, BLOCK, gl.SliceLayout(1, LAYOUT))
    across = gl.arange(0, WIDTH, gl.SliceLayout(0, LAYOUT))
    target += gl.cast(batch, gl.int64) * strides[0] + gl.cast(head, gl.int64) * strides[1]
    at = target + gl.cast(rows, gl.int64)[:, None] * strides[2] + across[None, :] * strides[3]
    gl.store(at, sums.to(target.dtype.element_ty), mask=(rows < end)[:, None])
