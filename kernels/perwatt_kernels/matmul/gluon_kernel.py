"""The product in Gluon for Hopper: warps that copy, and two groups of warps that multiply what was copied.

``C = scale_a scale_b (A B) + bias``, sums in float32. One program a multiprocessor takes tile after tile. One of its
warps copies blocks of A and B by the tensor memory accelerator into a ring of stages; a barrier of each stage says
that it is there, another that it may be overwritten. Two groups of four warps multiply asynchronously, one step in
flight while the next is issued. Either they share each tile, half of its rows each, or they take tiles by turns, so
that one multiplies while the other writes. Then a group begins once the other has seen all blocks of its tile: a wait
for a barrier cannot tell one round of the ring from the next but one. Results leave by the accelerator, a quarter of
the columns at a time through two buffers, while blocks of the next tile come in.

Blocks that lie by columns are copied as they lie and read through a turned view of shared memory, which products of
16-bit operands can do. Descriptors read zeros beyond the end and write nothing there.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: RUF005  (the compiler knows no stars in lists)
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

from perwatt_kernels.gluon_names import copy_in, copy_out


@gluon.jit
def _place(index, tiles_m, tiles_n, GROUP: gl.constexpr):
    """Row and column of the tile with an index: along bands of GROUP rows of tiles, down each column of a band."""
    band = GROUP * tiles_n
    first = (index // band) * GROUP
    height = gl.minimum(tiles_m - first, GROUP)
    return first + (index % band) % height, (index % band) // height


@gluon.jit
def _copy(
    a, b, a_ring, b_ring, ready, empty, m, n, k,
    BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, BLOCK_K: gl.constexpr, GROUP: gl.constexpr, STAGES: gl.constexpr,
    PARTS: gl.constexpr, A_TURNED: gl.constexpr, B_TURNED: gl.constexpr,
):  # fmt: skip
    """The warp that copies: blocks of all tiles of a program, in the order in which they are multiplied."""
    tiles_m, tiles_n = gl.cdiv(m, BLOCK_M), gl.cdiv(n, BLOCK_N)
    ROWS: gl.constexpr = BLOCK_M // PARTS
    BYTES: gl.constexpr = PARTS * a.block_type.nbytes + b.block_type.nbytes
    step = 0
    for tile in range(gl.program_id(0), tiles_m * tiles_n, gl.num_programs(0)):
        row, column = _place(tile, tiles_m, tiles_n, GROUP)
        for at in range(0, k, BLOCK_K):
            stage = step % STAGES
            here = ready.index(stage)
            mbarrier.wait(empty.index(stage), (step // STAGES + 1) & 1)  # at first all are empty
            mbarrier.expect(here, BYTES)
            for part in gl.static_range(PARTS):
                down = row * BLOCK_M + part * ROWS
                if A_TURNED:
                    copy_in(a, [at, down], here, a_ring.index(stage * PARTS + part))
                else:
                    copy_in(a, [down, at], here, a_ring.index(stage * PARTS + part))
            if B_TURNED:
                copy_in(b, [column * BLOCK_N, at], here, b_ring.index(stage))
            else:
                copy_in(b, [at, column * BLOCK_N], here, b_ring.index(stage))
            step += 1


@gluon.jit
def _multiply(
    a_ring, b_ring, way, ready, empty, turn, c, bias, scale_a, scale_b, m, n, k,
    WHO: gl.constexpr, BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, BLOCK_K: gl.constexpr, GROUP: gl.constexpr,
    STAGES: gl.constexpr, PARTS: gl.constexpr, A_TURNED: gl.constexpr, B_TURNED: gl.constexpr, SCALES: gl.constexpr,
    BIAS: gl.constexpr, EXACT: gl.constexpr,
):  # fmt: skip
    """Group WHO of the warps that multiply: its part of each tile, or, where they are one part, each second tile."""
    tiles_m, tiles_n, steps = gl.cdiv(m, BLOCK_M), gl.cdiv(n, BLOCK_N), gl.cdiv(k, BLOCK_K)
    TURN: gl.constexpr = WHO if PARTS == 1 else 0
    PART: gl.constexpr = WHO if PARTS > 1 else 0
    TURNS: gl.constexpr = 3 - PARTS
    ROWS: gl.constexpr = BLOCK_M // PARTS
    DEPTH: gl.constexpr = 256 // a_ring.dtype.primitive_bitwidth  # of one instruction: 32 bytes
    SUMS: gl.constexpr = gl.NVMMADistributedLayout(
        version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BLOCK_N, DEPTH]
    )
    step, programs = TURN * steps, gl.num_programs(0)
    for tile in range(gl.program_id(0) + TURN * programs, tiles_m * tiles_n, TURNS * programs):
        total = gl.zeros([ROWS, BLOCK_N], gl.float32, SUMS)
        if TURNS > 1:
            mbarrier.wait(turn.index(WHO), (tile // (TURNS * programs) + 1 + WHO) & 1)  # the first is group 0's
        if EXACT:  # short sums of one step, added up in float32: its products are waited for before the next step's
            for _ in range(steps):
                stage = step % STAGES
                mbarrier.wait(ready.index(stage), (step // STAGES) & 1)
                x, y = _block(a_ring, stage * PARTS + PART, A_TURNED), _block(b_ring, stage, B_TURNED)
                short = warpgroup_mma(x, y, gl.zeros([ROWS, BLOCK_N], gl.float32, SUMS), use_acc=False, is_async=True)
                short = warpgroup_mma_wait(0, deps=[short])
                mbarrier.arrive(empty.index(stage), count=1)
                total += short
                step += 1
            if TURNS > 1:
                mbarrier.arrive(turn.index(1 - WHO), count=1)
        else:
            sums = warpgroup_mma_init(total)
            for done in range(steps):
                stage = step % STAGES
                mbarrier.wait(ready.index(stage), (step // STAGES) & 1)
                x, y = _block(a_ring, stage * PARTS + PART, A_TURNED), _block(b_ring, stage, B_TURNED)
                sums = warpgroup_mma(x, y, sums, is_async=True)
                sums = warpgroup_mma_init(warpgroup_mma_wait(1, deps=[sums]))
                mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), count=1, pred=done > 0)
                step += 1
            if TURNS > 1:
                mbarrier.arrive(turn.index(1 - WHO), count=1)
            total = warpgroup_mma_wait(0, deps=[sums])
            mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), count=1, pred=steps > 0)
        step += (TURNS - 1) * steps
        row, column = _place(tile, tiles_m, tiles_n, GROUP)
        down, right = row * BLOCK_M + PART * ROWS, column * BLOCK_N
        total = _finished(total, bias, scale_a, scale_b, down, right, m, n, SUMS, SCALES, BIAS)
        first, second = _halves(total)
        _leave(first, way, WHO, c, down, right)
        _leave(second, way, WHO, c, down, right + BLOCK_N // 2)
    tma.store_wait(0)


@gluon.jit
def _block(ring, index, TURNED: gl.constexpr):
    """A block as products read it, by a turned view where it lies by columns."""
    block = ring.index(index)
    if TURNED:
        block = block.permute([1, 0])
    return block


@gluon.jit
def _finished(
    total, bias, scale_a, scale_b, down, right, m, n, SUMS: gl.constexpr, SCALES: gl.constexpr, BIAS: gl.constexpr
):  # fmt: skip
    """Sums after the epilogue, in float32."""
    rows = down + gl.arange(0, total.shape[0], layout=gl.SliceLayout(1, SUMS))
    columns = right + gl.arange(0, total.shape[1], layout=gl.SliceLayout(0, SUMS))
    if SCALES == "tensor":
        total = total * (gl.load(scale_a) * gl.load(scale_b))
    if SCALES == "row":
        left = gl.load(scale_a + rows, mask=rows < m, other=0.0)
        above = gl.load(scale_b + columns, mask=columns < n, other=0.0)
        total = total * left[:, None] * above[None, :]
    if BIAS:
        total += gl.load(bias + columns, mask=columns < n, other=0.0).to(gl.float32)[None, :]
    return total


@gluon.jit
def _halves(x):
    """The left and the right half of the columns, which each thread has some of."""
    return gl.split(gl.permute(gl.reshape(x, [x.shape[0], 2, x.shape[1] // 2]), [0, 2, 1]))


@gluon.jit
def _leave(half, way, WHO: gl.constexpr, c, down, right):
    """Write half a tile in two steps, each through a buffer of its own once what left by it before was read."""
    first, second = _halves(half)
    WIDTH: gl.constexpr = half.shape[1] // 2
    tma.store_wait(1)
    buffer = way.index(2 * WHO)
    buffer.store(first.to(c.dtype))
    fence_async_shared()
    copy_out(c, [down, right], buffer)
    tma.store_wait(1)
    buffer = way.index(2 * WHO + 1)
    buffer.store(second.to(c.dtype))
    fence_async_shared()
    copy_out(c, [down, right + WIDTH], buffer)


@gluon.jit
def perwatt_matmul_gluon(
    a, b, c, bias, scale_a, scale_b, m, n, k,
    BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, BLOCK_K: gl.constexpr, GROUP: gl.constexpr, STAGES: gl.constexpr,
    PARTS: gl.constexpr, A_TURNED: gl.constexpr, B_TURNED: gl.constexpr, SCALES: gl.constexpr, BIAS: gl.constexpr,
    EXACT: gl.constexpr, REGISTERS: gl.constexpr,
):  # fmt: skip
    """A product by as many programs as run at once.

    ``a`` describes [m, k] in blocks of BLOCK_M / PARTS rows, or [k, m] where turned; ``b`` [k, n], or [n, k] where
    turned; ``c`` [m, n] in blocks of BLOCK_M / PARTS rows and a quarter of BLOCK_N columns.
    """
    a_ring = gl.allocate_shared_memory(a.dtype, [STAGES * PARTS] + a.block_type.shape, a.layout)
    b_ring = gl.allocate_shared_memory(b.dtype, [STAGES] + b.block_type.shape, b.layout)
    way = gl.allocate_shared_memory(c.dtype, [4] + c.block_type.shape, c.layout)
    ready = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    turn = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    for who in gl.static_range(2):
        mbarrier.init(turn.index(who), count=1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(ready.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=PARTS)
    fence_async_shared()
    gl.warp_specialize(
        [
            (_multiply, (a_ring, b_ring, way, ready, empty, turn, c, bias, scale_a, scale_b, m, n, k, 0, BLOCK_M,
                         BLOCK_N, BLOCK_K, GROUP, STAGES, PARTS, A_TURNED, B_TURNED, SCALES, BIAS, EXACT)),
            (_multiply, (a_ring, b_ring, way, ready, empty, turn, c, bias, scale_a, scale_b, m, n, k, 1, BLOCK_M,
                         BLOCK_N, BLOCK_K, GROUP, STAGES, PARTS, A_TURNED, B_TURNED, SCALES, BIAS, EXACT)),
            (_copy, (a, b, a_ring, b_ring, ready, empty, m, n, k, BLOCK_M, BLOCK_N, BLOCK_K, GROUP, STAGES, PARTS,
                     A_TURNED, B_TURNED)),
        ],
        [4, 1], [REGISTERS, 24],
    )  # fmt: skip
