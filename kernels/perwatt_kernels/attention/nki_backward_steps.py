"""What the gradients in NKI are made of: steps, who does which, and what fits into SBUF. Numbers only."""

from __future__ import annotations

from typing import Any

TILE, BLOCK = 128, 512  # queries of a tile and keys of a chunk; keys of a block
CHUNKS = BLOCK // TILE
LEAD = 3  # steps from loading a tile to multiplying it
UNDER_WAY = LEAD + 4  # steps whose tiles are needed at once


def fixed_bytes(dim: int, size: int) -> int:
    """Bytes of a partition of SBUF whatever the lengths: tiles and blocks under way, what is between, results.

    Args:
        dim: of a head.
        size: bytes of an element.
    """
    tiles = UNDER_WAY * (tile_bytes(dim, size) + dim * size + 4)
    blocks = UNDER_WAY * (2 * BLOCK * size + 2 * CHUNKS * dim * size)
    between = 12 * BLOCK * size + 2 * dim * 4
    results = 4 * CHUNKS * dim * 4 + 2 * CHUNKS * dim * size + 2 * dim * 4
    return tiles + blocks + between + results


def tile_bytes(dim: int, size: int) -> int:
    """The same of a tile of queries and of its gradient of the output, as they are and turned."""
    return 2 * (TILE + dim) * size


def tiles_kept(dim: int, size: int, sbuf_partition: int, resident: bool) -> int:
    """Tiles of queries whose sums of dQ fit into SBUF together.

    Args:
        dim: of a head.
        size: bytes of an element.
        sbuf_partition: bytes.
        resident: whether the tiles are kept there as well.
    """
    each = (dim + 2) * 4 + (tile_bytes(dim, size) if resident else 0)  # two columns of statistics
    return max(0, sbuf_partition - fixed_bytes(dim, size)) // each


def most_queries(dim: int, size: int, sbuf_partition: int) -> int:
    """The longest sequence of queries whose sums of dQ fit."""
    return tiles_kept(dim, size, sbuf_partition, False) * TILE


def kept_heads(group: int, q_len: int, dim: int, size: int, sbuf_partition: int) -> tuple[int, bool]:
    """Heads of a group to do in one pass over the keys, and whether their tiles are loaded once or for every block.

    Loading them once is worth several passes: sums of dK and dV are less to move than tiles. But a pass must not load
    over tiles that the one before still uses: it comes to the last tile of its first block, which may be the second of
    the keys, as many steps later as tiles see that one.
    """
    tiles = -(-q_len // TILE)
    kept = tiles_kept(dim, size, sbuf_partition, True) // tiles
    resident = kept > 0 and tiles >= UNDER_WAY + CHUNKS
    if not resident:
        kept = tiles_kept(dim, size, sbuf_partition, False) // tiles
    return -(-group // -(-group // max(kept, 1))), resident


def keys_seen(q_len: int, kv_len: int, causal: bool) -> int:
    """Keys that any query sees."""
    return min(q_len, kv_len) if causal else kv_len


def keys_of_tile(row: int, rows: int, keys: int, causal: bool) -> int:
    """Keys that any query of a tile sees, of those that are seen at all."""
    return min(keys, row + rows) if causal else keys


def owner(block: int, cores: int) -> int:
    """Which core has a block of keys that cores share: 0, 1, 1, 0, so that causal ones take both as long."""
    return (block + 1) // 2 % cores


def shared_pair(pairs: int, cores: int) -> int:
    """The pair of batch and key head that the cores share: the last, if it is left over; else -1."""
    return pairs - 1 if pairs % cores > 0 else -1


def by_heads(group: int, cores: int) -> bool:
    """Whether they share it by its query heads, so that sums of dK and dV are exchanged; else by blocks, and of dQ."""
    return group % cores == 0


def steps_of(
    q_shape: tuple[int, ...], k_shape: tuple[int, ...], causal: bool, kept: int, resident: bool, core: int, cores: int
) -> list[Any]:
    """What a core does, in order: a step is a tile of queries of one head, and what it sees of a block of keys.

    Args:
        q_shape: of queries.
        k_shape: of keys.
        causal: whether a query sees keys up to its own place only.
        kept: heads of a group that are done at once.
        resident: whether their tiles stay in SBUF from the first block to the last.
        core: that does it.
        cores: that there are.
    """
    q_len, group = q_shape[2], q_shape[1] // k_shape[1]
    keys, pairs = keys_seen(q_len, k_shape[2], causal), k_shape[0] * k_shape[1]
    steps = []
    before, blocks = 0, 0
    for pair in range(pairs):
        shared = pair == shared_pair(pairs, cores)
        split = shared and not by_heads(group, cores)
        heads = (0, group)
        if shared and not split:
            heads = (core * group // cores, (core + 1) * group // cores)
        if shared or pair % cores == core:
            for first in range(heads[0], heads[1], kept):
                for block in range(-(-keys // BLOCK)):
                    if not split or owner(block, cores) == core:
                        of_all = {
                            "batch": pair // k_shape[1], "kv_head": pair % k_shape[1], "turn": blocks,
                            "first_pass": first == heads[0], "last_pass": first + kept >= heads[1],
                            "split": split, "keys_shared": shared and not split,
                            "resident": resident, "core": core, "cores": cores,
                        }  # fmt: skip
                        some = (first, min(first + kept, heads[1]))
                        found = _steps_of_block(of_all, block, some, (q_len, keys, group), causal, before)
                        steps.extend(found)
                        before += len(found)
                        blocks += 1
    return steps


def _steps_of_block(
    of_all: dict[str, Any], block: int, heads: tuple[int, int], lengths: tuple[int, int, int], causal: bool, before: int
) -> list[Any]:
    """Those of a block of keys: all tiles that see any of it, of the heads from a first one up to a last one.

    Args:
        of_all: what holds for all of them.
        block: of keys.
        heads: first head, and the one behind the last.
        lengths: queries, keys that are seen, heads of a group.
        causal: whether a query sees keys up to its own place only.
        before: steps before these.
    """
    q_len, keys, group = lengths
    split, core, cores = of_all["split"], of_all["core"], of_all["cores"]
    steps = []
    tiles, start, key = -(-q_len // TILE), block * CHUNKS if causal else 0, block * BLOCK
    for head in range(heads[0], heads[1]):
        for tile in range(start, tiles):
            number = before + (head - heads[0]) * (tiles - start) + tile - start
            row = tile * TILE
            rows = min(TILE, q_len - row)
            stop = keys_of_tile(row, rows, keys, causal)
            last = -(-stop // BLOCK) - 1
            shared = split and last > 0
            while split and owner(last, cores) != core:
                last -= 1
            fresh = block == (core if split else 0)
            new = tile - start if causal or tile == 0 else CHUNKS
            kept, resident = (head - heads[0]) * tiles + tile, of_all["resident"]
            step = {
                "batch": of_all["batch"], "kv_head": of_all["kv_head"], "turn": of_all["turn"],
                "first_pass": of_all["first_pass"], "last_pass": of_all["last_pass"],
                "keys_shared": of_all["keys_shared"],
                "in_group": head, "head": of_all["kv_head"] * group + head, "sum": kept,
                "row": row, "rows": rows,
                "key": key, "width": min(BLOCK, keys - key), "seen": min(stop - key, BLOCK),
                "masked": row - key if causal and row < key + BLOCK else BLOCK,  # keys before the first masked one
                "place": kept if resident else number % UNDER_WAY,
                "loads": fresh or not resident, "fresh": fresh, "final": block == last, "shared": shared,
                "opens": head == heads[0] and tile == start, "closes": head == heads[1] - 1 and tile == tiles - 1,
                "new_chunk": new if head == heads[0] else CHUNKS,  # from here on chunks are seen for the first time
            }  # fmt: skip
            steps.append(step)
    return steps
