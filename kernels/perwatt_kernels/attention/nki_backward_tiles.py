"""What the gradients in NKI keep on chip and in HBM, and how tiles come in and go out."""

from __future__ import annotations

from typing import Any

from perwatt_kernels.attention.nki_backward_steps import BLOCK, CHUNKS, TILE, UNDER_WAY, by_heads
from perwatt_kernels.nki_interpreter.api import nisa, nl
from perwatt_kernels.nki_turned import load_turned


def results_of(q: Any, k: Any, several_passes: bool, exchanged: bool) -> dict[str, Any]:
    """Gradients in HBM, and partial ones: dK and dV between passes over heads, dK and dV or dQ between cores."""
    group, cores = q.shape[1] // k.shape[1], nl.num_programs()
    made = {
        "dq": nl.ndarray(q.shape, q.dtype, buffer=nl.shared_hbm),
        "dk": nl.ndarray(k.shape, k.dtype, buffer=nl.shared_hbm),
        "dv": nl.ndarray(k.shape, k.dtype, buffer=nl.shared_hbm),
    }
    if several_passes:
        made["dk_part"] = nl.ndarray(k.shape[2:], nl.float32, buffer=nl.private_hbm)
        made["dv_part"] = nl.ndarray(k.shape[2:], nl.float32, buffer=nl.private_hbm)
    if exchanged and by_heads(group, cores):
        made["dk_cores"] = nl.ndarray((cores, k.shape[2], k.shape[3]), nl.float32, buffer=nl.shared_hbm)
        made["dv_cores"] = nl.ndarray((cores, k.shape[2], k.shape[3]), nl.float32, buffer=nl.shared_hbm)
    elif exchanged:
        made["dq_cores"] = nl.ndarray((cores, group, q.shape[2], q.shape[3]), nl.float32, buffer=nl.shared_hbm)
    return made


def memory_of(dtype: Any, size: int, dim: int, kept: int, tiles: int, resident: bool) -> dict[str, Any]:
    """All memory on chip that lasts: rings of tiles for steps, and what adds up."""
    by_dma = nisa.get_nc_version() != nisa.nc_version.gen2  # which has no transposing transfers
    halves = 2 if size == 2 else 1
    places = kept * tiles if resident else UNDER_WAY
    turned = nl.ndarray((TILE, halves, BLOCK), dtype, buffer=nl.psum)
    queries = nl.ndarray((TILE, 2, dim), nl.float32, buffer=nl.psum)
    memory = {
        "by_dma": by_dma,
        "q": _ring(places, (TILE, dim), dtype), "q_turned": _ring(places, (dim, TILE), dtype),
        "d_out": _ring(places, (TILE, dim), dtype), "d_out_turned": _ring(places, (dim, TILE), dtype),
        "out": _ring(UNDER_WAY, (TILE, dim), dtype), "lse": _ring(UNDER_WAY, (TILE, 1), nl.float32),
        "k": _ring(UNDER_WAY, (TILE, CHUNKS, dim), dtype), "k_turned": _ring(UNDER_WAY, (dim, BLOCK), dtype),
        "v": _ring(0 if by_dma else UNDER_WAY, (TILE, CHUNKS, dim), dtype),
        "v_turned": _ring(UNDER_WAY, (dim, BLOCK), dtype),
        "p": _ring(3, (TILE, BLOCK), dtype), "less_d": _ring(2, (TILE, BLOCK), dtype),
        "ds": _ring(4, (TILE, BLOCK), dtype), "ds_turned": _ring(3, (TILE, BLOCK), dtype),
        "product": _ring(2, (TILE, dim), nl.float32),
        "dq": _ring(kept * tiles, (TILE, dim), nl.float32),
        "statistics": _ring(kept * tiles, (TILE, 2), nl.float32),  # -lse and -D
        "halves": halves, "dim": dim,
        "scores": _ring(2, (TILE, BLOCK), nl.float32, nl.psum), "d_p": _ring(2, (TILE, BLOCK), nl.float32, nl.psum),
        "turned": turned, "dq_sum": queries,
        "dk_sum": nl.ndarray((TILE, CHUNKS, dim), nl.float32, buffer=nl.psum),
        "dv_sum": nl.ndarray((TILE, CHUNKS, dim), nl.float32, buffer=nl.psum),
    }  # fmt: skip
    return memory


def _ring(count: int, shape: tuple[int, ...], dtype: Any, buffer: Any = nl.sbuf) -> list[Any]:
    """Memory that steps use in turn."""
    ring = []
    for _ in range(count):
        ring.append(nl.ndarray(shape, dtype, buffer=buffer))
    return ring


def load(memory: dict[str, Any], given: dict[str, Any], step: dict[str, Any], at: int) -> None:
    """Fetch the tile of a step; with the first of a block its keys, with a tile's first block its statistics."""
    slot, row, rows = at % UNDER_WAY, step["row"], step["rows"]
    if step["opens"]:
        block = step["turn"] % UNDER_WAY
        for name in ("k", "v"):
            source = given[name][step["batch"], step["kv_head"], step["key"] : step["key"] + step["width"]]
            if memory["by_dma"]:
                load_turned(memory[name + "_turned"][block][:, 0 : step["width"]], source)
            if name == "k" or not memory["by_dma"]:
                rows_in(memory[name][block], source)
    if step["loads"]:
        for name in ("q", "d_out"):
            source = given[name][step["batch"], step["head"], row : row + rows]
            if memory["by_dma"]:
                load_turned(memory[name + "_turned"][step["place"]][:, 0:rows], source)
            nisa.dma_copy(memory[name][step["place"]][0:rows], source)
    if step["fresh"]:
        nisa.dma_copy(memory["out"][slot][0:rows], given["out"][step["batch"], step["head"], row : row + rows])
        lse = given["lse"][step["batch"], step["head"], row : row + rows]
        nisa.dma_copy(memory["lse"][slot][0:rows], lse.expand_dim(1))


def rows_in(tile: Any, source: Any) -> None:
    """Load rows into chunks of 128."""
    width = source.shape[0]
    chunks = width // TILE
    if chunks > 0:
        whole = source[0 : chunks * TILE].reshape_dim(0, (chunks, TILE)).permute((1, 0, 2))
        nisa.dma_copy(tile[:, 0:chunks], whole)
    if width > chunks * TILE:
        nisa.dma_copy(tile[0 : width - chunks * TILE, chunks], source[chunks * TILE : width])


def rows_out(target: Any, tile: Any) -> None:
    """Store chunks of 128 as rows."""
    width = target.shape[0]
    chunks = width // TILE
    if chunks > 0:
        whole = target[0 : chunks * TILE].reshape_dim(0, (chunks, TILE)).permute((1, 0, 2))
        nisa.dma_copy(whole, tile[:, 0:chunks])
    if width > chunks * TILE:
        nisa.dma_copy(target[chunks * TILE : width], tile[0 : width - chunks * TILE, chunks])


def statistics(memory: dict[str, Any], step: dict[str, Any], at: int) -> None:
    """-lse and -D of a new tile; without transposing transfers its operands turned by the tensor engine."""
    slot, rows = at % UNDER_WAY, step["rows"]
    if step["fresh"]:
        columns = memory["statistics"][step["sum"]][0:rows]
        product = memory["product"][at % 2][0:rows]
        d_out = memory["d_out"][step["place"]][0:rows]
        nisa.tensor_tensor(product, memory["out"][slot][0:rows], d_out, op=nl.multiply, engine=nisa.engine.gpsimd)
        nisa.tensor_reduce(columns[:, 1:2], nl.add, product, axis=1, negate=True)
        nisa.activation(columns[:, 0:1], nl.copy, memory["lse"][slot][0:rows], scale=-1.0)
    if memory["by_dma"]:
        return
    if step["opens"]:
        block = step["turn"] % UNDER_WAY
        for chunk in range(-(-step["width"] // TILE)):
            first, last = chunk * TILE, min(chunk * TILE + TILE, step["width"])
            for name in ("k", "v"):
                _turn_operand(memory, memory[name + "_turned"][block][:, first:last],
                              memory[name][block][0 : last - first, chunk], at)  # fmt: skip
    if step["loads"]:
        for name in ("q", "d_out"):
            turned = memory[name + "_turned"][step["place"]]
            _turn_operand(memory, turned[:, 0:rows], memory[name][step["place"]][0:rows], at)


def _turn_operand(memory: dict[str, Any], target: Any, source: Any, at: int) -> None:
    dim, count = target.shape
    psum = memory["turned"][0:dim, at % memory["halves"], 0:count]
    nisa.nc_transpose(psum, source, engine=nisa.engine.tensor)
    nisa.tensor_copy(target, psum, engine=nisa.engine.vector)
