"""Operands of attention in SBUF, loaded ahead of their use, and the causal mask.

``run`` is the state of the kernel that calls (nki_forward).
"""

from __future__ import annotations

from typing import Any

from perwatt_kernels.attention.nki_work import COLUMNS, TILE
from perwatt_kernels.nki_interpreter.api import nisa, nl
from perwatt_kernels.nki_turned import load_turned

FETCHED = 6  # items for which operands are loaded before their first scores
FILL = -3e38  # a masked score, once scaled
SPARE = 60 * 1024  # bytes of a partition for all but keys and values


def held(kv_len: int, dim: int, size: int) -> int:
    """Bytes of a partition that keys and values of a head take.

    Args:
        kv_len: keys.
        dim: of a head.
        size: bytes of an element.
    """
    return -(-kv_len // TILE) * (TILE + dim) * size


def causal_mask(scale: float) -> Any:
    """An identity, and what its product adds to scores where queries meet the keys of their own positions.

    As a product the mask costs the tensor engine a quarter of a block, and no other engine anything.
    """
    ones, zeros = nl.ndarray((TILE, TILE), nl.bfloat16), nl.ndarray((TILE, TILE), nl.bfloat16)
    identity, triangle = nl.ndarray((TILE, TILE), nl.bfloat16), nl.ndarray((TILE, TILE), nl.bfloat16)
    nisa.memset(ones, 1.0)
    nisa.memset(zeros, 0.0)
    nisa.affine_select(identity, [[-1, TILE]], 1, ones, 0.0, cmp_op=nl.equal)
    nisa.affine_select(triangle, [[-1, TILE]], 1, zeros, FILL / max(scale, 1.0), cmp_op=nl.greater_equal)
    return identity, triangle


def fetch(run: Any, number: int) -> None:
    """Load what the scores of an item need, and those that follow as far as it fits."""
    todo, k = run["items"], run["k"]
    if number > 0 and todo[number - 1]["pair"] != todo[number]["pair"]:
        run["keys"][todo[number - 1]["pair"]] = []
    size = 4 if k.dtype == nl.float32 else 2
    roomy = 2 * held(k.shape[2], k.shape[3], size) + SPARE <= nl.tile_size.sbuf_fmax_bytes
    until = min(number + FETCHED, len(todo))
    for ahead in range(number, until):
        item = todo[ahead]
        if ahead >= run["fetched"] and not item["first"]:  # a further section of the same tile
            run["queries"][ahead] = run["queries"][ahead - 1]
        elif ahead >= run["fetched"]:
            run["queries"][ahead] = transposed(run["q"], item["head"], item["row"], item["rows"])
        if roomy or item["pair"] == todo[number]["pair"]:
            _load_keys(run, item)
    run["fetched"] = until
    if roomy:
        for ahead in range(number, until):
            _load_values(run, todo[ahead])


def fetch_values(run: Any, number: int) -> None:
    """Load the values that an item needs and that are not there yet; those of the head before it go."""
    todo = run["items"]
    if number > 0 and todo[number - 1]["pair"] != todo[number]["pair"]:
        run["values"][todo[number - 1]["pair"]] = []
    _load_values(run, todo[number])


def _load_keys(run: Any, item: Any) -> None:
    """Blocks of keys that an item sees and that are not there yet."""
    loaded, kv_len = run["keys"][item["pair"]], run["k"].shape[2]
    for start in range(len(loaded) * COLUMNS, item["end"], COLUMNS):
        loaded.append(transposed(run["k"], item["pair"], start, min(COLUMNS, kv_len - start)))


def _load_values(run: Any, item: Any) -> None:
    """Tiles of values, likewise."""
    v, pair = run["v"], item["pair"]
    loaded = run["values"][pair]
    for start in range(len(loaded) * TILE, item["end"], TILE):
        count = min(TILE, v.shape[2] - start)
        tile = nl.ndarray((count, v.shape[3]), v.dtype)
        nisa.dma_copy(tile, v[pair // v.shape[1], pair % v.shape[1], start : start + count, :])
        loaded.append(tile)


def transposed(source: Any, head: int, start: int, count: int) -> Any:
    """Rows of a head as columns, [dim, count]: by DMA, or where that cannot, by the tensor engine.

    Args:
        source: [batch, heads, length, dim] in HBM.
        head: counted over the batch.
        start: first row.
        count: of rows.
    """
    batch, member, dim = head // source.shape[1], head % source.shape[1], source.shape[3]
    found = nl.ndarray((dim, count), source.dtype)
    if nisa.get_nc_version() != nisa.nc_version.gen2:
        load_turned(found, source[batch, member, start : start + count, :])
        return found
    for at in range(0, count, TILE):
        rows = min(TILE, count - at)
        plain = nl.ndarray((rows, dim), source.dtype)
        psum = nl.ndarray((dim, rows), source.dtype, buffer=nl.psum)
        nisa.dma_copy(plain, source[batch, member, start + at : start + at + rows, :])
        nisa.nc_transpose(psum, plain, engine=nisa.engine.tensor)
        nisa.tensor_copy(found[:, at : at + rows], psum, engine=nisa.engine.vector)
    return found
