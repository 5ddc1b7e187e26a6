"""How the products in NKI are blocked, whatever their format: ``left @ right`` with sums in float32, any shape.

The depth lies on partitions, in steps of as many rows as one instruction multiplies. Cores share the result's rows.

Where SBUF holds rows of the left operand over the whole depth, beside a block of columns of the right one, the left one
is read once and the right one streams past, once for each block of rows (``_wide``): for every block of columns and
four tiles of rows, four banks of PSUM add up over the whole depth while the four others are evicted. Deeper products
are summed over sections of the depth, in float32 in SBUF (``_deep``).

What differs by format is an object with: ``step``, ``weight`` (bytes of a partition for a row or column and a step),
``even`` (rows of a tile come in multiples of it), ``left_tile`` and ``right_tile`` (an operand's rows or columns over
one step), ``multiply`` and ``finish`` (a tile of sums in float32 to the result).
"""

from __future__ import annotations

from typing import Any

from perwatt_kernels.nki_interpreter.api import nisa, nl

TILE, COLUMNS, GROUP = 128, 512, 4  # rows of a tile, columns of a bank, tiles of rows that add up at once
HIGH = GROUP * TILE
SPARE = 24 * 1024  # bytes of a partition for results on their way out and tiles on their way in
DEEP_COLUMNS = 1024


def rows_kept(steps: int, weight: int, sbuf_partition: int) -> int:
    """Rows of the left operand that SBUF holds over the whole depth beside a block of columns of the right one.

    Args:
        steps: of the depth.
        weight: bytes of a partition for a row and a step.
        sbuf_partition: bytes of a partition.
    """
    block = steps * COLUMNS * weight
    return (sbuf_partition - SPARE - block) // block * HIGH


def deep_rows(weight: int) -> int:
    """Rows whose sums are kept in SBUF where the depth comes in sections: so many that the operands' traffic is low."""
    return 2048 if weight <= 2 else 1024


def section_steps(weight: int, sbuf_partition: int) -> int:
    """Steps of a section: two sections of both operands fit beside the sums."""
    rows = deep_rows(weight)
    sums = rows // TILE * DEEP_COLUMNS * 4
    return (sbuf_partition - SPARE - sums) // (2 * weight * (rows + DEEP_COLUMNS))


def product(how: Any, rows: int, columns: int, depth: int) -> None:
    """All of a result; of two cores each does half of the rows."""
    share = -(-rows // (TILE * nl.num_programs())) * TILE
    first = nl.program_id(0) * share
    stop = min(first + share, rows)
    steps = -(-depth // how.step)
    kept = rows_kept(steps, how.weight, nl.tile_size.sbuf_fmax_bytes)
    if kept > 0:
        for row in range(first, stop, kept):
            _wide(how, row, min(row + kept, stop), columns, depth)
    else:
        section = section_steps(how.weight, nl.tile_size.sbuf_fmax_bytes) * how.step
        for row in range(first, stop, deep_rows(how.weight)):
            for column in range(0, columns, DEEP_COLUMNS):
                row_stop = min(row + deep_rows(how.weight), stop)
                _deep(how, row, row_stop, column, min(column + DEEP_COLUMNS, columns), depth, section)


def _wide(how: Any, row: int, row_stop: int, columns: int, depth: int) -> None:
    """All columns of rows that stay in SBUF over the whole depth."""
    lefts = _lists(row_stop - row, HIGH)
    for column in range(0, columns, COLUMNS):
        width = min(COLUMNS, columns - column)
        rights: Any = []
        for group in range(len(lefts)):
            at = row + group * HIGH
            height = min(HIGH, row_stop - at)
            sums = _sums(how, lefts[group], rights, at, height, column, width, 0, depth)
            for tile in range(len(sums)):
                how.finish(sums[tile], at + tile * TILE, min(TILE, height - tile * TILE), column, width, tile)
            sums = []  # their banks are free once they are written


def _deep(how: Any, row: int, row_stop: int, column: int, column_stop: int, depth: int, section: int) -> None:
    """Some rows and columns, whose sums add up in SBUF over sections of the depth."""
    totals = []
    for start in range(0, depth, section):
        stop = min(start + section, depth)
        rights = _lists(column_stop - column, COLUMNS)
        index = 0
        for at in range(row, row_stop, HIGH):
            height = min(HIGH, row_stop - at)
            lefts: Any = []
            for block in range(len(rights)):
                to = column + block * COLUMNS
                width = min(COLUMNS, column_stop - to)
                sums = _sums(how, lefts, rights[block], at, height, to, width, start, stop)
                for tile in range(len(sums)):
                    if start == 0:
                        totals.append(nl.ndarray(sums[tile].shape, nl.float32))
                        nisa.tensor_copy(totals[index], sums[tile])
                    else:
                        nisa.tensor_tensor(totals[index], totals[index], sums[tile], nl.add)
                    if stop == depth:
                        high = min(TILE, height - tile * TILE)
                        how.finish(totals[index], at + tile * TILE, high, to, width, tile)
                    index += 1
                sums = []


def _lists(size: int, part: int) -> Any:
    """An empty list for each part of rows or columns, for its tiles."""
    found: Any = []
    for _ in range(0, size, part):
        found.append([])
    return found


def _sums(
    how: Any, lefts: Any, rights: Any, row: int, height: int, column: int, width: int, start: int, stop: int
) -> Any:
    """Up to four tiles of rows times columns over a part of the depth, each in a bank of PSUM.

    The lists of the operands' tiles, one for each step, are filled where they are still empty.
    """
    sums = []
    for offset in range(0, height, TILE):
        high = min(TILE, height - offset)
        sums.append(nl.ndarray((high + high % how.even, width), nl.float32, buffer=nl.psum))
    for at in range(-(-(stop - start) // how.step)):
        k = start + at * how.step
        deep = min(how.step, stop - k)
        if len(lefts) == at:
            lefts.append(how.left_tile(k, deep, row, height))
        if len(rights) == at:
            rights.append(how.right_tile(k, deep, column, width))
        for tile in range(len(sums)):
            how.multiply(sums[tile], lefts[at], tile * TILE, rights[at], at > 0)
    return sums


def evict(out: Any, sums: Any, row: int, high: int, column: int, width: int, turn: int) -> None:
    """Round sums to the result's format and write them, by Vector and Scalar in turn."""
    tile = nl.ndarray((high, width), out.dtype)
    if turn % 2 == 1:
        nisa.activation(tile, nl.copy, sums[0:high])
    else:
        nisa.tensor_copy(tile, sums[0:high], engine=nisa.engine.vector)
    nisa.dma_copy(out[row : row + high, column : column + width], tile)
