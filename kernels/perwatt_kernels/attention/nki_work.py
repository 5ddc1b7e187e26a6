"""What a core has to do for attention in NKI: tiles of queries by sections of keys, and the order of their blocks.

Plain arithmetic that a kernel calls while it is compiled, in the part of Python that the compiler takes.
"""

from __future__ import annotations

from typing import Any

TILE, COLUMNS, SECTION = 128, 512, 8192  # queries of a tile and keys of a product; keys of a block; of a section


def items(q_shape: Any, k_shape: Any, causal: bool, core: int, cores: int) -> list[dict[str, Any]]:
    """Tiles of queries by sections of keys, in order, each a dict.

    ``pair`` counts heads of keys over the batch, ``head`` those of queries; ``row`` and ``rows`` are the queries,
    ``begin`` and ``end`` the keys; ``column`` counts the tiles of a head that this core has; ``first`` and ``last`` say
    whether it is the first and the last section of its tile, ``closes`` whether it is the last item of its head.

    Args:
        q_shape: of the queries, [batch, heads, q_len, dim].
        k_shape: of the keys.
        causal: whether keys past the diagonal are left out.
        core: whose items.
        cores: that share all of them: the heads of keys, or tiles where those do not divide.
    """
    pairs, group, tiles = k_shape[0] * k_shape[1], q_shape[1] // k_shape[1], -(-q_shape[2] // TILE)
    found = []
    for head in range(pairs * group):
        pair, mine = head // group, []
        for tile in range(tiles):
            # Tiles go to cores 0 1 1 0 0 1 1 0, so that both have as many long ones under a causal mask.
            owner = pair * cores // pairs if pairs % cores == 0 else (tile + 1) // 2 % cores
            if owner == core:
                mine.append(tile)
        for column in range(len(mine)):
            row = mine[column] * TILE
            rows = min(TILE, q_shape[2] - row)
            seen = min(k_shape[2], row + rows) if causal else k_shape[2]
            for begin in range(0, seen, SECTION):
                end = min(begin + SECTION, seen)
                found.append({
                    "pair": pair, "head": head, "row": row, "rows": rows, "begin": begin, "end": end, "column": column,
                    "first": begin == 0, "last": end == seen, "closes": end == seen and column == len(mine) - 1,
                })  # fmt: skip
    return found


def blocks(of: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Blocks of keys of all items: ``item``, ``start`` and ``width``; ``first`` and ``last`` of its item."""
    found = []
    for item in range(len(of)):
        begin, end = of[item]["begin"], of[item]["end"]
        for start in range(begin, end, COLUMNS):
            found.append({
                "item": item, "start": start, "width": min(COLUMNS, end - start), "first": start == begin,
                "last": start + COLUMNS >= end,
            })  # fmt: skip
    return found


def pace(of: list[dict[str, Any]], ahead: int, early: int, behind: int, late: int) -> list[tuple[int, int, int, int]]:
    """How far each stage has come when a block is turned: number of blocks scored, weighed, summed, and past results.

    Distances are in keys, as blocks differ. Whole items are scored ``ahead`` of where they are weighed; beyond that the
    lead grows to that of the longest item and then stays, so that long and short items have the engines equally busy.

    Args:
        of: all blocks.
        ahead: keys by which an item's scores are complete before its first block is turned.
        early: keys that are weighed before they are turned.
        behind: keys that are turned before they are summed.
        late: keys that are turned before the results of an item are read.
    """
    upto, ends, longest = [0], [0] * len(of), 0
    for at in range(len(of)):
        upto.append(upto[at] + of[at]["width"])
        ends[of[at]["item"]] = at + 1
        longest = max(longest, of[at]["start"] + of[at]["width"])
    lead = min(longest, SECTION) + ahead
    scored, weighed, summed, past, found = 0, 0, 0, 0, []
    for at in range(len(of)):
        done = upto[at + 1]
        while scored < len(of) and upto[scored] < done + min(lead, ahead + done // 4):
            scored += 1
        need = at
        while need + 1 < len(of) and upto[need] < done + ahead:
            need += 1
        scored = max(scored, ends[of[need]["item"]])
        while weighed < len(of) and upto[weighed] < done + early:
            weighed += 1
        while upto[summed + 1] + behind <= done:
            summed += 1
        while upto[past + 1] + late <= done:
            past += 1
        found.append((scored, weighed, summed, past))
    found.append((len(of), len(of), len(of), len(of)))
    return found
