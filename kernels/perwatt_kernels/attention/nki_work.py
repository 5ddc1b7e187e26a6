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
    """How far each stage is when a block is turned, then as they run out: blocks scored, weighed, summed, past results.

    Distances are in blocks, however few keys one has: each may be an item of its own, and then holds a bank of PSUM
    from its sum until its result is read. Whole items are scored ``ahead`` of where they are turned; beyond that the
    lead grows to that of the longest item and then stays, so that long and short items have the engines equally busy.

    Args:
        of: all blocks.
        ahead: blocks by which an item's scores are complete before its first block is turned.
        early: blocks that are weighed before they are turned.
        behind: blocks that are turned before they are summed.
        late: blocks that are turned before the results of an item are read.
    """
    ends, begun, longest, count = [0] * len(of), 0, 0, len(of)
    for at in range(count):
        if of[at]["first"]:
            begun = at
        ends[of[at]["item"]] = at + 1
        longest = max(longest, at + 1 - begun)
    found = []
    for done in range(1, count + late + 1 if count > 0 else 1):
        whole = ends[of[min(done + ahead, count - 1)]["item"]]
        scored = min(done + ahead + min(longest, -(-done // 4)), count)
        weighed, summed, past = min(done + early, count), min(max(done - behind, 0), count), max(done - late, 0)
        found.append((max(whole, scored), weighed, summed, past))
    return found
