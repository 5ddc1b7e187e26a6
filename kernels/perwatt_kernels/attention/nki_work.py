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


def scores_due(of: list[dict[str, Any]], lead: int) -> list[int]:
    """How many blocks have their scores by the time that each block is turned.

    Those of an item are complete ``lead`` blocks before its first one is turned, and evenly spread over the item before.

    Args:
        of: all blocks.
        lead: blocks beyond the next item.
    """
    firsts = []
    for at in range(len(of)):
        if of[at]["first"]:
            firsts.append(at)
    firsts.append(len(of))
    firsts.append(len(of))
    found = []
    for at in range(len(of)):
        item = of[at]["item"]
        here, there, beyond = firsts[item], firsts[item + 1], firsts[item + 2]
        spread = -(-(at - here + 1) * (beyond - there) // (there - here))
        found.append(min(there + spread + lead, len(of)))
    return found
