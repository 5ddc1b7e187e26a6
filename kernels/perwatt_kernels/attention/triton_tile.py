"""What the Triton kernels of attention share: loading tiles of a head, products, and which keys a query sees.

Positions are those in the whole sequence. A document is ``start`` to ``end`` of it; where nothing is packed, the
sequence is the one document.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from __future__ import annotations

import triton
import triton.language as tl

from perwatt_kernels.triton_site import interpreted

INTERPRETED = tl.constexpr(interpreted())
GRID = ("all_heads", "tiles", "section")
"""Numbers that only say which program does what: a kernel compiled anew for each sort of them would be no faster."""
LOG2E = tl.constexpr(1.4426950408889634)  # exponentials are powers of two, which the hardware has


@triton.jit
def product(a, b, sum):
    """The product of a [m, k] and b [k, n], added to ``sum`` in float32.

    The interpreter of Triton 3.9 has bfloat16 as bits and multiplies those; there operands become float32, exactly.
    """
    if INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, sum, input_precision="ieee")


@triton.jit
def rounded(x, format: tl.constexpr):
    """Float32 to the nearest in a format, ties to even, as in hardware.

    The interpreter of Triton 3.9 cuts bits off for bfloat16, and loses the carry into the exponent for e4m3. There
    values are rounded before, by arithmetic on their bits.
    """
    if INTERPRETED and format == tl.bfloat16:
        x = tl.where(x == x, _kept(x, 16), x)
    if INTERPRETED and format == tl.float8e4nv:
        finest = x + 24576.0 - 24576.0  # multiples of 2^-9, of which numbers below 2^-6 are
        x = tl.where(tl.abs(x) < 0.015625, finest, _kept(x, 20))
    return x.to(format)


@triton.jit
def _kept(x, DROPPED: tl.constexpr):
    """Float32 rounded to so many bits less."""
    bits = x.to(tl.uint32, bitcast=True)
    up = bits + (1 << (DROPPED - 1)) - 1 + ((bits >> DROPPED) & 1)
    return ((up >> DROPPED) << DROPPED).to(tl.float32, bitcast=True)


@triton.jit
def head_of(source, strides, batch, head):
    """Where a head begins. Offsets in 64 bits: a tensor may have more than 2^31 elements."""
    return source + tl.cast(batch, tl.int64) * strides[0] + tl.cast(head, tl.int64) * strides[1]


@triton.jit
def pointers(head, strides, first, BLOCK: tl.constexpr, WIDTH: tl.constexpr):
    """Of [BLOCK, WIDTH] elements of a head, from position ``first`` on."""
    offsets = tl.arange(0, BLOCK)[:, None] * strides[2] + tl.arange(0, WIDTH)[None, :] * strides[3]
    return head + tl.cast(first, tl.int64) * strides[2] + offsets


@triton.jit
def inside(first, end, BLOCK: tl.constexpr, WIDTH: tl.constexpr, DIM: tl.constexpr):
    """Which of these elements there are."""
    return (first + tl.arange(0, BLOCK) < end)[:, None] & (tl.arange(0, WIDTH) < DIM)[None, :]


@triton.jit
def load(
    source, strides, batch, head, first, end, BLOCK: tl.constexpr, WIDTH: tl.constexpr, DIM: tl.constexpr,
    TAIL: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """[BLOCK, WIDTH] of a head from position ``first`` on, zero beyond ``end`` and the head's width.

    ``TAIL`` says whether rows may lie beyond the end, ``TMA`` whether ``source`` is a tensor's descriptor, of
    [1, 1, BLOCK, WIDTH] at a time, or its pointer.
    """
    if TMA:
        tile = source.load([batch, head, first, 0]).reshape(BLOCK, WIDTH)
    else:
        at = pointers(head_of(source, strides, batch, head), strides, first, BLOCK, WIDTH)
        if TAIL or WIDTH != DIM:
            tile = tl.load(at, mask=inside(first, end, BLOCK, WIDTH, DIM), other=0.0)
        else:
            tile = tl.load(at)
    return tile


@triton.jit
def store(
    tile, target, strides, batch, head, first, end, BLOCK: tl.constexpr, WIDTH: tl.constexpr, DIM: tl.constexpr,
    TAIL: tl.constexpr,
):  # fmt: skip
    """Write what :func:`load` would load."""
    at = pointers(head_of(target, strides, batch, head), strides, first, BLOCK, WIDTH)
    tile = rounded(tile, target.dtype.element_ty)
    if TAIL or WIDTH != DIM:
        tl.store(at, tile, mask=inside(first, end, BLOCK, WIDTH, DIM))
    else:
        tl.store(at, tile)


@triton.jit
def add(
    tile, target, strides, batch, head, first, end, BLOCK: tl.constexpr, WIDTH: tl.constexpr, DIM: tl.constexpr,
    TAIL: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """Add to what :func:`load` would load, by atomics, in no order."""
    if TMA:
        target.atomic_add([batch, head, first, 0], tile.reshape(1, 1, BLOCK, WIDTH))
    else:
        at = pointers(head_of(target, strides, batch, head), strides, first, BLOCK, WIDTH)
        mask = inside(first, end, BLOCK, WIDTH, DIM) if TAIL or WIDTH != DIM else None
        tl.atomic_add(at, tile, mask=mask, sem="relaxed")


@triton.jit
def sees(queries, keys, end, CAUSAL: tl.constexpr, WINDOW: tl.constexpr):
    """Whether queries see keys, whose positions broadcast against each other; ``end`` is that of the keys."""
    seen = keys < end
    if CAUSAL:
        seen = seen & (queries >= keys)
    if WINDOW:
        seen = seen & (queries - keys < WINDOW)
        if not CAUSAL:
            seen = seen & (keys - queries < WINDOW)
    return seen


@triton.jit
def keys_seen(first, start, end, ROWS: tl.constexpr, STEP: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr):
    """Keys that ROWS queries from ``first`` on see, in steps.

    From ``low`` to ``high`` some of them see some, from ``left`` to ``right`` all of them see all.
    """
    low = start
    left = start
    right = end
    high = end
    if CAUSAL:
        right = first + 1
        high = first + ROWS
    if WINDOW:
        low = first - WINDOW + 1
        left = first + ROWS - WINDOW
        if not CAUSAL:
            right = first + WINDOW
            high = first + ROWS + WINDOW - 1
    return steps(low, left, right, high, start, end, STEP)


@triton.jit
def queries_seeing(
    first, start, end, ROWS: tl.constexpr, STEP: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr
):
    """Queries that see ROWS keys from ``first`` on, in steps as of :func:`keys_seen`."""
    low = start
    left = start
    right = end
    high = end
    if CAUSAL:
        low = first
        left = first + ROWS - 1
    if WINDOW:
        right = first + WINDOW
        high = first + ROWS + WINDOW - 1
        if not CAUSAL:
            low = first - WINDOW + 1
            left = first + ROWS - WINDOW
    return steps(low, left, right, high, start, end, STEP)


@triton.jit
def steps(low, left, right, high, start, end, STEP: tl.constexpr):
    """Bounds within a document: the outer ones on the steps that hold them, the inner ones on the steps between."""
    low = start + tl.maximum(low - start, 0) // STEP * STEP
    left = start + (tl.maximum(left - start, 0) + STEP - 1) // STEP * STEP
    right = start + tl.maximum(tl.minimum(right, end) - start, 0) // STEP * STEP
    high = tl.minimum(high, end)
    return low, tl.minimum(left, high), tl.maximum(right, tl.minimum(left, high)), high


@triton.jit
def place(table, tile, tiles, length, BLOCK: tl.constexpr, PACKED: tl.constexpr, LAST_FIRST: tl.constexpr):
    """Where a program's tile lies, the heaviest ones first: its first position, and its document's start and end."""
    if PACKED:  # [tiles, 3], in the order of their work
        first = tl.load(table + tile * 3)
        start = tl.load(table + tile * 3 + 1)
        length = tl.load(table + tile * 3 + 2)
    else:
        first = (tiles - 1 - tile if LAST_FIRST else tile) * BLOCK
        start = 0
    return first, start, length


@triton.jit
def turn(tiles, heads, section):
    """Which tile and which head (of all sequences) is a program's: tile by tile, in sections of heads.

    Programs that run at once so share the keys of a section, which the second-level cache holds.
    """
    program = tl.program_id(0)
    number = program // (tiles * section)
    within = program - number * tiles * section
    width = tl.minimum(section, heads - number * section)
    return within // width, number * section + within % width
