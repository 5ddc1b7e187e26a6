"""Flash attention in Gluon for Hopper, forward: one warp loads while others multiply and weigh.

The design is that of FlashAttention 3 (Shah et al. 2024). A program has a producer, one warp that brings queries and
rings of keys and values by the tensor memory accelerator, and two consumers, warp groups of 64 queries each. A consumer
asks for the scores of the next keys before it weighs the present values, and computes exponentials while that product
is under way. Weights never leave registers. Consumers may take turns, so that one multiplies while the other computes
exponentials.

Keys go by from the last to the first, so only the first steps of a tile, at the end or on the diagonal, have masks.
Maximum and sum of the softmax are as in ``triton_forward.py``.
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
    warpgroup_mma_wait,
)

from perwatt_kernels.attention import gluon_tiles as tiles
from perwatt_kernels.gluon_names import barrier, copy_in, copy_out

LOG2E = gl.constexpr(1.4426950408889634)  # exponentials are powers of two, which the hardware has
CONSUMERS = gl.constexpr(tiles.CONSUMERS)
GROUP_ROWS = gl.constexpr(tiles.ROWS // tiles.CONSUMERS)  # rows of one product of a warp group
ROWS = gl.constexpr(tiles.ROWS)


@gluon.jit
def perwatt_attention_forward_gluon(
    q, k, v, out, lse, heads, group, all_heads, q_len, kv_len, tiles, section, scale, CAUSAL: gl.constexpr,
    STAGES: gl.constexpr, TURNS: gl.constexpr, TAIL: gl.constexpr, REGISTERS: gl.constexpr,
):  # fmt: skip
    """Tiles of queries, one after the other where programs are fewer.

    ``q`` and ``out`` are descriptors of [batch, heads, q_len, head_dim] that read and write 64 rows, ``k`` and ``v`` of
    [batch, kv_heads, kv_len, head_dim] that read a step's; ``lse`` points to float32 [batch, heads, q_len], contiguous:
    the natural logarithms of sums of exponentials. ``tiles`` are those of a head, ``all_heads`` of all sequences,
    ``section`` of :func:`turn`. A ring has STAGES steps. With TURNS consumers take turns at products, and TAIL says
    whether a step may reach beyond the last key. A thread of the second consumer has REGISTERS, and the first has what
    is left of the register file.
    """
    COLUMNS: gl.constexpr = k.block_type.shape[2]
    WIDTH: gl.constexpr = k.block_type.shape[3]
    queries = gl.allocate_shared_memory(q.dtype, [CONSUMERS, 1, 1, GROUP_ROWS, WIDTH], q.layout)
    keys = gl.allocate_shared_memory(k.dtype, [STAGES, 1, 1, COLUMNS, WIDTH], k.layout)
    values = gl.allocate_shared_memory(v.dtype, [STAGES, 1, 1, COLUMNS, WIDTH], v.layout)
    q_full, q_empty = _barriers(CONSUMERS, 1), _barriers(CONSUMERS, 1)
    k_full, k_empty = _barriers(STAGES, 1), _barriers(STAGES, CONSUMERS)
    v_full, v_empty = _barriers(STAGES, 1), _barriers(STAGES, CONSUMERS)
    turns = _barriers(2, 1)
    fence_async_shared()
    shared = (queries, keys, values, q_full, q_empty, k_full, k_empty, v_full, v_empty, turns)
    sizes = (heads, group, all_heads, q_len, kv_len, tiles, section)
    gl.warp_specialize(
        [
            (_consume, (out, lse, shared, sizes, scale, 0, CAUSAL, STAGES, TURNS, TAIL)),
            (_consume, (out, lse, shared, sizes, scale, 1, CAUSAL, STAGES, TURNS, TAIL)),
            (_produce, (q, k, v, shared, sizes, CAUSAL, STAGES)),
        ],
        [4, 1],
        [REGISTERS, 24],
    )


@gluon.jit
def _barriers(COUNT: gl.constexpr, ARRIVALS: gl.constexpr):
    """So many barriers, each of which so many arrivals complete."""
    made = gl.allocate_shared_memory(gl.int64, [COUNT, 1], mbarrier.MBarrierLayout())
    for place in gl.static_range(COUNT):
        mbarrier.init(made.index(place), count=ARRIVALS)
    return made


@gluon.jit
def turn(program, tiles, heads, section):
    """Which tile and which head (of all sequences) is a program's: tile by tile, in sections of heads.

    Programs that run at once so share the keys of a section, which the second-level cache holds.
    """
    number = program // (tiles * section)
    within = program - number * tiles * section
    width = gl.minimum(section, heads - number * section)
    return within // width, number * section + within % width


@gluon.jit
def _tile(program, sizes, COLUMNS: gl.constexpr, CAUSAL: gl.constexpr):
    """Sequence, head and first query of a program's tile, those with most keys first, and its steps."""
    heads, _, all_heads, _, kv_len, tiles, section = sizes
    tile, head = turn(program, tiles, all_heads, section)
    end = kv_len
    if CAUSAL:
        tile = tiles - 1 - tile
        end = gl.minimum(kv_len, (tile + 1) * ROWS)
    return head // heads, head % heads, tile * ROWS, gl.cdiv(end, COLUMNS)


@gluon.jit
def _produce(q, k, v, shared, sizes, CAUSAL: gl.constexpr, STAGES: gl.constexpr):
    """Load queries of each tile once, and its keys and values from the last to the first, a step of keys ahead."""
    queries, keys, values, q_full, q_empty, k_full, k_empty, v_full, v_empty, _ = shared
    _, group, all_heads, _, _, tiles, _ = sizes
    COLUMNS: gl.constexpr = keys.shape[3]
    done = 0  # tiles
    count = 0  # steps of all tiles so far
    for program in range(gl.program_id(0), tiles * all_heads, gl.num_programs(0)):
        batch, head, first, steps = _tile(program, sizes, COLUMNS, CAUSAL)
        for which in gl.static_range(CONSUMERS):
            at = first + which * GROUP_ROWS
            _fetch(q, queries, q_full, q_empty, which + CONSUMERS * done, CONSUMERS, batch, head, at)
        at = (steps - 1) * COLUMNS
        _fetch(k, keys, k_full, k_empty, count, STAGES, batch, head // group, at)
        for _ahead in range(1, steps):
            _fetch(k, keys, k_full, k_empty, count + 1, STAGES, batch, head // group, at - COLUMNS)
            _fetch(v, values, v_full, v_empty, count, STAGES, batch, head // group, at)
            at -= COLUMNS
            count += 1
        _fetch(v, values, v_full, v_empty, count, STAGES, batch, head // group, at)
        count += 1
        done += 1  # noqa: SIM113 - Gluon has no enumerate


@gluon.jit
def _fetch(source, ring, full, empty, count, PLACES: gl.constexpr, batch, head, at):
    """Load the block that is the ``count``-th of a ring, once its place is empty."""
    place, round = _place(count, PLACES)
    mbarrier.wait(empty.index(place), round ^ 1)
    mbarrier.expect(full.index(place), source.block_type.nbytes)
    copy_in(source, [batch, head, at, 0], full.index(place), ring.index(place))


@gluon.jit
def _place(count, PLACES: gl.constexpr):
    """Where in a ring, and the parity of the round."""
    return count % PLACES, (count // PLACES) & 1


@gluon.jit
def _consume(
    out, lse, shared, sizes, scale, WHICH: gl.constexpr, CAUSAL: gl.constexpr, STAGES: gl.constexpr,
    TURNS: gl.constexpr, TAIL: gl.constexpr,
):  # fmt: skip
    """The WHICH-th 64 queries of each tile."""
    queries, keys, values, q_full, q_empty, k_full, k_empty, v_full, v_empty, turns = shared
    heads, _, all_heads, q_len, kv_len, tiles, _ = sizes
    COLUMNS: gl.constexpr = keys.shape[3]
    WIDTH: gl.constexpr = keys.shape[4]
    scored: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLUMNS, 16])
    summed: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, WIDTH, 16])
    by_score: gl.constexpr = gl.SliceLayout(1, scored)
    by_sum: gl.constexpr = gl.SliceLayout(1, summed)
    mine = queries.index(WHICH).reshape([GROUP_ROWS, WIDTH])
    scale = scale * LOG2E
    done = 0
    count = 0
    for program in range(gl.program_id(0), tiles * all_heads, gl.num_programs(0)):
        batch, head, first, steps = _tile(program, sizes, COLUMNS, CAUSAL)
        first += WHICH * GROUP_ROWS
        rows = first + gl.arange(0, GROUP_ROWS, layout=by_score)
        acc = gl.zeros([GROUP_ROWS, WIDTH], gl.float32, layout=summed)
        most = gl.full([GROUP_ROWS], float("-inf"), gl.float32, layout=by_score)
        total = gl.zeros([GROUP_ROWS], gl.float32, layout=by_score)

        mbarrier.wait(q_full.index(WHICH), done & 1)
        _await_turn(turns, count, WHICH, TURNS)
        scores = _scores(mine, keys, k_full, count, STAGES, scored)
        _give_turn(turns, WHICH, TURNS)
        scores = warpgroup_mma_wait(0, deps=[scores])
        _free(k_empty, count, STAGES)
        if CAUSAL or TAIL:
            scores = _masked(scores, rows, (steps - 1) * COLUMNS, kv_len, COLUMNS, scored, CAUSAL, TAIL)
        weights, most, total, _shrink = _weighed(scores, most, total, scale)

        masked = 1  # steps whose keys not all rows see
        if CAUSAL:
            masked = gl.maximum(steps - gl.minimum(kv_len, first + 1) // COLUMNS, 1)
            for back in range(1, masked):
                acc, weights, most, total = _step(
                    mine, shared, count + back, acc, weights, most, total, scale, rows, (steps - 1 - back) * COLUMNS,
                    kv_len, STAGES, WHICH, CAUSAL, TURNS, TAIL, True, scored, summed,
                )  # fmt: skip
        for back in range(masked, steps):
            acc, weights, most, total = _step(
                mine, shared, count + back, acc, weights, most, total, scale, rows, (steps - 1 - back) * COLUMNS,
                kv_len, STAGES, WHICH, CAUSAL, TURNS, TAIL, False, scored, summed,
            )  # fmt: skip
        count += steps
        part = _operand(weights, values.dtype, summed)
        acc = _sums(part, values, v_full, acc, count - 1, STAGES)
        acc, part = warpgroup_mma_wait(0, deps=[acc, part])
        _free(v_empty, count - 1, STAGES)

        acc = acc * gl.expand_dims(gl.convert_layout(1.0 / total, by_sum), 1)
        mine.store(acc.to(out.dtype))  # its queries have been read
        fence_async_shared()
        barrier()
        copy_out(out, [batch, head, first, 0], queries.index(WHICH))
        at = lse + (batch * heads + head).to(gl.int64) * q_len + rows
        gl.store(at, (most + gl.log2(total)) / LOG2E, mask=rows < q_len)
        tma.store_wait(0)
        mbarrier.arrive(q_empty.index(WHICH), count=1)
        done += 1  # noqa: SIM113 - Gluon has no enumerate


@gluon.jit
def _step(
    queries, shared, count, acc, weights, most, total, scale, rows, at, kv_len, STAGES: gl.constexpr,
    WHICH: gl.constexpr, CAUSAL: gl.constexpr, TURNS: gl.constexpr, TAIL: gl.constexpr, MASKED: gl.constexpr,
    scored: gl.constexpr, summed: gl.constexpr,
):  # fmt: skip
    """Scores of the ``count``-th keys, while values are summed by the weights of those before."""
    _, keys, values, _, _, k_full, k_empty, v_full, v_empty, turns = shared
    COLUMNS: gl.constexpr = keys.shape[3]
    part = _operand(weights, values.dtype, summed)  # here, so that no register holds half of a pair between steps
    _await_turn(turns, count, WHICH, TURNS)
    scores = _scores(queries, keys, k_full, count, STAGES, scored)
    acc = _sums(part, values, v_full, acc, count - 1, STAGES)
    _give_turn(turns, WHICH, TURNS)
    scores = warpgroup_mma_wait(1, deps=[scores])
    _free(k_empty, count, STAGES)
    if MASKED:
        scores = _masked(scores, rows, at, kv_len, COLUMNS, scored, CAUSAL, TAIL)
    weights, most, total, shrink = _weighed(scores, most, total, scale)
    acc, part = warpgroup_mma_wait(0, deps=[acc, part])
    _free(v_empty, count - 1, STAGES)
    by_sum: gl.constexpr = gl.SliceLayout(1, summed)
    acc = acc * gl.expand_dims(gl.convert_layout(shrink, by_sum), 1)
    return acc, weights, most, total


@gluon.jit
def _scores(queries, keys, full, count, STAGES: gl.constexpr, scored: gl.constexpr):
    """Ask for the product of queries and the ``count``-th keys."""
    COLUMNS: gl.constexpr = keys.shape[3]
    WIDTH: gl.constexpr = keys.shape[4]
    place, round = _place(count, STAGES)
    mbarrier.wait(full.index(place), round)
    turned = keys.index(place).reshape([COLUMNS, WIDTH]).permute([1, 0])
    zero = gl.zeros([GROUP_ROWS, COLUMNS], gl.float32, layout=scored)
    return warpgroup_mma(queries, turned, zero, use_acc=False, is_async=True)


@gluon.jit
def _sums(weights, values, full, acc, count, STAGES: gl.constexpr):
    """Ask for the product of weights and the ``count``-th values, added to what there is."""
    COLUMNS: gl.constexpr = values.shape[3]
    WIDTH: gl.constexpr = values.shape[4]
    place, round = _place(count, STAGES)
    mbarrier.wait(full.index(place), round)
    return warpgroup_mma(weights, values.index(place).reshape([COLUMNS, WIDTH]), acc, is_async=True)


@gluon.jit
def _free(empty, count, STAGES: gl.constexpr):
    """This consumer has read the ``count``-th block."""
    place, _ = _place(count, STAGES)
    mbarrier.arrive(empty.index(place), count=1)


@gluon.jit
def _await_turn(turns, count, WHICH: gl.constexpr, TURNS: gl.constexpr):
    """Wait until the other consumer has asked for its products; the first one begins."""
    if TURNS:
        mbarrier.wait(turns.index(WHICH), (count + 1 - WHICH) & 1)


@gluon.jit
def _give_turn(turns, WHICH: gl.constexpr, TURNS: gl.constexpr):
    if TURNS:
        mbarrier.arrive(turns.index(1 - WHICH), count=1)


@gluon.jit
def _masked(
    scores, rows, at, kv_len, COLUMNS: gl.constexpr, scored: gl.constexpr, CAUSAL: gl.constexpr, TAIL: gl.constexpr
):
    """Scores of keys from ``at`` on, minus infinity where a query does not see one."""
    columns = gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, scored))
    seen = gl.full([GROUP_ROWS], 0, gl.int32, layout=gl.SliceLayout(1, scored)) + (kv_len - at)  # keys of the step
    if CAUSAL:
        seen = gl.minimum(rows + 1 - at, seen) if TAIL else rows + 1 - at
    return gl.where(gl.expand_dims(columns, 0) < gl.expand_dims(seen, 1), scores, float("-inf"))


@gluon.jit
def _weighed(scores, most, total, scale):
    """Weights, the highest scores so far, the sum of weights, and what all before shrinks by."""
    highest = gl.maximum(most, gl.max(scores, 1) * scale)
    base = gl.where(highest == float("-inf"), 0.0, highest)  # of a query that has seen no key yet
    weights = gl.exp2(scores * scale - gl.expand_dims(base, 1))
    shrink = gl.exp2(most - base)
    return weights, highest, total * shrink + gl.sum(weights, 1), shrink


@gluon.jit
def _operand(weights, format: gl.constexpr, summed: gl.constexpr):
    """Weights as the left operand of a product, in registers."""
    return gl.convert_layout(weights.to(format), gl.DotOperandLayout(0, summed, k_width=2))
