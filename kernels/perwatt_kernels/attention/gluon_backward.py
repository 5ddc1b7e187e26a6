"""Flash attention in Gluon for Hopper, backward, laid out as FlashAttention 3 has it (Shah et al. 2024).

Formulas are those of :mod:`perwatt_kernels.attention.triton_backward`. A program has a tile of keys and values and goes
over queries of the heads that share it, with five products a step. One warp has the tensor memory accelerator copy the
tile once, and queries, gradients of the result and statistics into a ring. Eight warps, two warp groups with half of
the keys each, multiply: scores are turned, keys down and queries across, so that weights and gradients of scores are
operands in registers of the products that sum dV and dK. Only dS = P * (dP - delta) passes shared memory, for
dQ = dS K, which is added to float32 in memory by atomics: in no order, so dQ differs in its last bits from run to run.

At most three products are under way at once: S and dP of a step while dK of the one before ends, then dV, dQ and dK;
exponentials are taken while dP is computed, and dQ is added while dK is. With S of the next step under way beside dQ
and dK, registers do not suffice.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,attr-defined"
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_init,
    warpgroup_mma_wait,
)

from perwatt_kernels.attention.gluon_forward import turn
from perwatt_kernels.gluon_names import copy_in

LOG2E = gl.constexpr(1.4426950408889634)  # exponentials are powers of two, which the hardware has


@gluon.jit
def perwatt_attention_backward_gluon(
    q, k, v, d_out, lse, delta, dk, dv, dq, dk_strides, dv_strides, heads, kv_heads, all_heads, kv_len, span, tiles,
    section, splits, scale, CAUSAL: gl.constexpr, DIM: gl.constexpr, STAGES: gl.constexpr, REGISTERS: gl.constexpr,
):  # fmt: skip
    """Gradients of one tile of keys and values, and what it gives to those of queries.

    ``q``, ``k``, ``v`` and ``d_out`` are descriptors of [batch, heads or kv_heads, length, DIM], ``lse`` and ``delta``
    of float32 [batch x heads x span], where span is q_len up to whole steps, and +inf and 0 what is beyond; their
    blocks are the steps and the tile. ``dk`` and ``dv`` point to [batch, kv_heads, kv_len, DIM]; where ``splits``
    programs share the heads of a tile among them, to [batch, kv_heads x splits, kv_len, DIM]; ``all_heads`` are these,
    of all sequences. Gradients of queries over the scale are added to ``dq``, float32 [batch, heads, span, width of a
    block], contiguous. ``tiles`` of a head, ``section`` as of ``turn``; REGISTERS of a thread of the copying warp.
    """
    COLUMNS: gl.constexpr = k.block_type.shape[2]
    ROWS: gl.constexpr = q.block_type.shape[2]
    WIDTH: gl.constexpr = q.block_type.shape[3]
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

    tile, target = turn(gl.program_id(0), tiles, all_heads, section)
    first = tile * COLUMNS
    batch = target // (kv_heads * splits)
    target = target % (kv_heads * splits)
    share = heads // (kv_heads * splits)
    start = gl.minimum(first // ROWS * ROWS, span - ROWS) if CAUSAL else 0  # keys that no query sees have one step
    steps = (span - start) // ROWS
    gl.warp_specialize(
        [
            (_multiply, (
                keys, values, queries, incoming, sums, means, once, full, empty, dk, dv, dq, dk_strides, dv_strides,
                batch, target, target * share, heads, first, start, share * steps, kv_len, span, scale,
                CAUSAL, DIM,
            )),
            (_copy, (
                q, k, v, d_out, lse, delta, keys, values, queries, incoming, sums, means, once, full, empty, batch,
                target // splits, target * share, heads, first, start, steps, share * steps, span,
            )),
        ],
        [1],
        [REGISTERS],
    )  # fmt: skip


@gluon.jit
def _copy(
    q, k, v, d_out, lse, delta, keys, values, queries, incoming, sums, means, once, full, empty, batch, kv_head, head,
    heads, first, start, steps, total, span,
):  # fmt: skip
    """The tile, then a ring of steps: those of each head from ``start`` on, head after head from ``head`` on."""
    STAGES: gl.constexpr = queries.shape[0]
    ROWS: gl.constexpr = q.block_type.shape[2]
    mbarrier.expect(once.index(0), k.block_type.nbytes + v.block_type.nbytes)
    copy_in(k, [batch, kv_head, first, 0], once.index(0), keys)
    copy_in(v, [batch, kv_head, first, 0], once.index(0), values)
    for step in range(total):
        stage = step % STAGES
        ready = full.index(stage)
        own = head + step // steps
        at = start + step % steps * ROWS
        statistic = (batch * heads + own) * span + at
        mbarrier.wait(empty.index(stage), step // STAGES & 1 ^ 1)
        mbarrier.expect(
            ready, q.block_type.nbytes + d_out.block_type.nbytes + lse.block_type.nbytes + delta.block_type.nbytes
        )
        copy_in(q, [batch, own, at, 0], ready, queries.index(stage))
        copy_in(lse, [statistic], ready, sums.index(stage))
        copy_in(d_out, [batch, own, at, 0], ready, incoming.index(stage))
        copy_in(delta, [statistic], ready, means.index(stage))


@gluon.jit
def _multiply(
    keys, values, queries, incoming, sums, means, once, full, empty, dk, dv, dq, dk_strides, dv_strides, batch, target,
    head, heads, first, start, total, kv_len, span, scale, CAUSAL: gl.constexpr, DIM: gl.constexpr,
):  # fmt: skip
    """All products. Of queries beyond the end the log-sum-exp is +inf, so weights are zero."""
    STAGES: gl.constexpr = queries.shape[0]
    ROWS: gl.constexpr = queries.shape[3]
    WIDTH: gl.constexpr = queries.shape[4]
    COLUMNS: gl.constexpr = keys.shape[2]
    form: gl.constexpr = keys.dtype
    scored: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [8, 1], [16, ROWS, 16])
    summed: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [8, 1], [16, WIDTH, 16])
    added: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 2], [16, WIDTH // 2, 16])  # 64 queries, half the width
    operand: gl.constexpr = gl.DotOperandLayout(0, summed, 2)
    block: gl.constexpr = [COLUMNS, ROWS]
    turned = gl.allocate_shared_memory(form, block, gl.NVMMASharedLayout.get_default_for(block, form))
    keys = keys.reshape([COLUMNS, WIDTH])
    values = values.reshape([COLUMNS, WIDTH])
    no_scores = gl.zeros(block, gl.float32, scored)
    no_queries = gl.zeros([ROWS, WIDTH], gl.float32, added)
    d_keys = warpgroup_mma_init(gl.zeros([COLUMNS, WIDTH], gl.float32, summed))
    d_values = gl.zeros([COLUMNS, WIDTH], gl.float32, summed)
    down = first + gl.arange(0, COLUMNS, gl.SliceLayout(1, scored))
    rows = gl.arange(0, ROWS, gl.SliceLayout(0, scored))
    lines = gl.arange(0, ROWS, gl.SliceLayout(1, added)) * WIDTH
    along = gl.arange(0, WIDTH, gl.SliceLayout(0, added))
    dq = dq + (gl.cast(batch * heads + head, gl.int64) * span + start) * WIDTH
    at = start
    mbarrier.wait(once.index(0), 0)
    for step in range(total):
        stage = step % STAGES
        mbarrier.wait(full.index(stage), step // STAGES & 1)
        asked = queries.index(stage).reshape([ROWS, WIDTH])
        given = incoming.index(stage).reshape([ROWS, WIDTH])
        scores = warpgroup_mma(keys, asked.permute((1, 0)), no_scores, use_acc=False, is_async=True)
        d_weights = warpgroup_mma(values, given.permute((1, 0)), no_scores, use_acc=False, is_async=True)
        lse = sums.index(stage).load(gl.SliceLayout(0, scored)) * LOG2E
        scores, d_keys = warpgroup_mma_wait(1, deps=[scores, d_keys])
        weights = gl.exp2(scores * (scale * LOG2E) - lse[None, :])
        delta = means.index(stage).load(gl.SliceLayout(0, scored))
        if CAUSAL:  # noqa: SIM102 - one is the compiler's, the other the device's
            if at < first + COLUMNS - 1:
                weights = gl.where((at + rows)[None, :] >= down[:, None], weights, 0.0)
        if first + COLUMNS > kv_len:
            weights = gl.where((down < kv_len)[:, None], weights, 0.0)
        d_weights = warpgroup_mma_wait(0, deps=[d_weights])
        d_scores = (weights * (d_weights - delta[None, :])).to(form)
        mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), pred=step > 0)
        turned.store(d_scores)
        fence_async_shared()
        d_values = warpgroup_mma(gl.convert_layout(weights.to(form), operand), given, d_values, is_async=True)
        d_queries = warpgroup_mma(turned.permute((1, 0)), keys, no_queries, use_acc=False, is_async=True)
        d_keys = warpgroup_mma(gl.convert_layout(d_scores, operand), asked, d_keys, is_async=True)
        d_queries, d_values = warpgroup_mma_wait(1, deps=[d_queries, d_values])
        gl.atomic_add((dq + lines)[:, None] + along[None, :], d_queries, sem="relaxed")
        at += ROWS
        dq += ROWS * WIDTH
        if at == span:  # the next head
            dq += start * WIDTH
            at = start
    d_keys = warpgroup_mma_wait(0, deps=[d_keys])
    _store(d_keys * scale, dk, dk_strides, batch, target, first, kv_len, DIM, summed)
    _store(d_values, dv, dv_strides, batch, target, first, kv_len, DIM, summed)


@gluon.jit
def _store(tile, target, strides, batch, head, first, end, DIM: gl.constexpr, LAYOUT: gl.constexpr):
    """Write a tile of [batch, heads, length, DIM] from position ``first`` on. Offsets of heads and rows in 64 bits."""
    rows = first + gl.arange(0, tile.shape[0], gl.SliceLayout(1, LAYOUT))
    across = gl.arange(0, tile.shape[1], gl.SliceLayout(0, LAYOUT))
    own = target + gl.cast(batch, gl.int64) * strides[0] + gl.cast(head, gl.int64) * strides[1]
    at = own + (gl.cast(rows, gl.int64) * strides[2])[:, None] + (across * strides[3])[None, :]
    gl.store(at, tile.to(target.dtype.element_ty), mask=(rows < end)[:, None] & (across < DIM)[None, :])
