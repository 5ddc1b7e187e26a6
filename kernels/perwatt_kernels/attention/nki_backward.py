"""Flash attention's gradients in NKI, from the forward's log-sum-exp, on one core or two (docs/kernels.md).

For scores S = scale q k^T, P = exp(S - lse) and D = the sum of out * d_out over a row (Dao 2023, algorithm 2):

    dV = P^T dO        dS = P * (dO V^T - D)        dQ = scale dS K        dK = scale dS^T Q

A core goes through blocks of 512 keys. For each it goes through the query heads that share the keys, and through their
tiles of 128 queries that see any of the block. dV and dK of a block add up in a bank of PSUM each, dQ of a tile adds up
in SBUF in float32 until its last block. Queries lie on partitions, so P and dS are stationary operands for dV and dK as
they are, and only dS is transposed, for dQ.

One block and one tile make a step. Engines work on several steps at once: while the tensor engine multiplies the scores
of one, Scalar and Vector are at those before, and tiles of later ones are loaded.

Cores share the pairs of batch and key head; of one that is left over they share the blocks, and exchange dQ in float32.
"""

from __future__ import annotations

from typing import Any

from perwatt_kernels.attention.nki_backward_steps import (
    BLOCK,
    CHUNKS,
    LEAD,
    TILE,
    UNDER_WAY,
    kept_heads,
    keys_of_tile,
    keys_seen,
    shared_pair,
    steps_of,
)  # fmt: skip
from perwatt_kernels.nki_interpreter.api import nisa, nl


def attention_backward(
    q: Any, k: Any, v: Any, out: Any, lse: Any, d_out: Any, causal: bool, scale: float
) -> tuple[Any, Any, Any]:
    """Gradients of ``out`` with respect to q, k and v, in their format.

    Args:
        q: [batch, heads, q_len, dim] in HBM, dim at most 128.
        k: [batch, kv_heads, kv_len, dim]; head h of q has head h // (heads // kv_heads) of k.
        v: like k.
        out: like q, the forward's result.
        lse: [batch, heads, q_len] in float32, the natural logarithm of the sum of exp(scale * scores).
        d_out: like q.
        causal: whether query i sees keys up to i only, else all.
        scale: of the scores.
    """
    group, q_len, dim = q.shape[1] // k.shape[1], q.shape[2], q.shape[3]
    size = 4 if q.dtype == nl.float32 else 2
    kept, resident = kept_heads(group, q_len, dim, size, nl.tile_size.sbuf_fmax_bytes)
    steps = steps_of(q.shape, k.shape, causal, kept, resident, nl.program_id(0), nl.num_programs())
    exchanged = shared_pair(q.shape[0] * k.shape[1], nl.num_programs()) >= 0
    given = {"q": q, "k": k, "v": v, "out": out, "lse": lse, "d_out": d_out}
    made = _results(q, k, kept < group, exchanged)
    memory = _memory(q.dtype, size, dim, kept, -(-q_len // TILE), resident)
    for at in range(len(steps) + UNDER_WAY):  # every engine does its part of each stage in this order
        if _due(steps, at - LEAD - 2):
            _turn(memory, steps[at - LEAD - 2], at - LEAD - 2)
        if _due(steps, at - LEAD):
            _scores(memory, steps[at - LEAD], at - LEAD, scale)
        if _due(steps, at - LEAD - 1):
            _values(memory, made, steps[at - LEAD - 1], at - LEAD - 1)
        if _due(steps, at - LEAD - 2):
            _keys(memory, made, steps[at - LEAD - 2], at - LEAD - 2, scale)
        if _due(steps, at - LEAD - 3):
            _queries(memory, made, steps[at - LEAD - 3], at - LEAD - 3, scale)
        if _due(steps, at - LEAD + 1):
            _statistics(memory, steps[at - LEAD + 1], at - LEAD + 1)
        if _due(steps, at):
            _load(memory, given, steps[at], at)
    _unseen(made, keys_seen(q_len, k.shape[2], causal))
    if exchanged:
        _exchange(made, keys_seen(q_len, k.shape[2], causal), causal)
    return made["dq"], made["dk"], made["dv"]


def _due(steps: list[Any], at: int) -> bool:
    return at >= 0 and at < len(steps)


def _results(q: Any, k: Any, several_passes: bool, exchanged: bool) -> dict[str, Any]:
    """Gradients in HBM, and partial ones: dK and dV between passes over heads, dQ between cores."""
    made = {
        "dq": nl.ndarray(q.shape, q.dtype, buffer=nl.shared_hbm),
        "dk": nl.ndarray(k.shape, k.dtype, buffer=nl.shared_hbm),
        "dv": nl.ndarray(k.shape, k.dtype, buffer=nl.shared_hbm),
    }
    if several_passes:
        made["dk_part"] = nl.ndarray(k.shape[2:], nl.float32, buffer=nl.private_hbm)
        made["dv_part"] = nl.ndarray(k.shape[2:], nl.float32, buffer=nl.private_hbm)
    if exchanged:
        parts = (2, q.shape[1] // k.shape[1], q.shape[2], q.shape[3])
        made["dq_parts"] = nl.ndarray(parts, nl.float32, buffer=nl.shared_hbm)
    return made


def _memory(dtype: Any, size: int, dim: int, kept: int, tiles: int, resident: bool) -> dict[str, Any]:
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


def _load(memory: dict[str, Any], given: dict[str, Any], step: dict[str, Any], at: int) -> None:
    """Fetch the tile of a step; with the first of a block its keys, with a tile's first block its statistics."""
    slot, row, rows = at % UNDER_WAY, step["row"], step["rows"]
    if step["opens"]:
        block = step["turn"] % UNDER_WAY
        for name in ("k", "v"):
            source = given[name][step["batch"], step["kv_head"], step["key"] : step["key"] + step["width"]]
            if memory["by_dma"]:
                nisa.dma_transpose(memory[name + "_turned"][block][:, 0 : step["width"]], source)
            if name == "k" or not memory["by_dma"]:
                _rows_in(memory[name][block], source)
    if step["loads"]:
        for name in ("q", "d_out"):
            source = given[name][step["batch"], step["head"], row : row + rows]
            if memory["by_dma"]:
                nisa.dma_transpose(memory[name + "_turned"][step["place"]][:, 0:rows], source)
            nisa.dma_copy(memory[name][step["place"]][0:rows], source)
    if step["fresh"]:
        nisa.dma_copy(memory["out"][slot][0:rows], given["out"][step["batch"], step["head"], row : row + rows])
        lse = given["lse"][step["batch"], step["head"], row : row + rows]
        nisa.dma_copy(memory["lse"][slot][0:rows], lse.expand_dim(1))


def _rows_in(tile: Any, source: Any) -> None:
    """Load rows into chunks of 128."""
    width = source.shape[0]
    chunks = width // TILE
    if chunks > 0:
        whole = source[0 : chunks * TILE].reshape_dim(0, (chunks, TILE)).permute((1, 0, 2))
        nisa.dma_copy(tile[:, 0:chunks], whole)
    if width > chunks * TILE:
        nisa.dma_copy(tile[0 : width - chunks * TILE, chunks], source[chunks * TILE : width])


def _rows_out(target: Any, tile: Any) -> None:
    """Store chunks of 128 as rows."""
    width = target.shape[0]
    chunks = width // TILE
    if chunks > 0:
        whole = target[0 : chunks * TILE].reshape_dim(0, (chunks, TILE)).permute((1, 0, 2))
        nisa.dma_copy(whole, tile[:, 0:chunks])
    if width > chunks * TILE:
        nisa.dma_copy(target[chunks * TILE : width], tile[0 : width - chunks * TILE, chunks])


def _statistics(memory: dict[str, Any], step: dict[str, Any], at: int) -> None:
    """-lse and -D of a new tile; without transposing transfers its operands turned by the tensor engine."""
    slot, rows = at % UNDER_WAY, step["rows"]
    if step["fresh"]:
        statistics = memory["statistics"][step["sum"]][0:rows]
        product = memory["product"][at % 2][0:rows]
        d_out = memory["d_out"][step["place"]][0:rows]
        nisa.tensor_tensor(product, memory["out"][slot][0:rows], d_out, op=nl.multiply, engine=nisa.engine.gpsimd)
        nisa.tensor_reduce(statistics[:, 1:2], nl.add, product, axis=1, negate=True)
        nisa.activation(statistics[:, 0:1], nl.copy, memory["lse"][slot][0:rows], scale=-1.0)
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


def _scores(memory: dict[str, Any], step: dict[str, Any], at: int, scale: float) -> None:
    """P and dP - D."""
    place, block, rows, seen = step["place"], step["turn"] % UNDER_WAY, step["rows"], step["seen"]
    scores, d_p = memory["scores"][at % 2][0:rows, 0:seen], memory["d_p"][at % 2][0:rows, 0:seen]
    k, v = memory["k_turned"][block][:, 0:seen], memory["v_turned"][block][:, 0:seen]
    nisa.nc_matmul(scores, memory["q_turned"][place][:, 0:rows], k, accumulate=False)
    nisa.nc_matmul(d_p, memory["d_out_turned"][place][:, 0:rows], v, accumulate=False)
    p, less_d = memory["p"][at % 3][0:rows, 0:seen], memory["less_d"][at % 2][0:rows, 0:seen]
    statistics = memory["statistics"][step["sum"]][0:rows]
    nisa.activation(p, nl.exp, scores, bias=statistics[:, 0:1], scale=scale)
    if step["masked"] < seen:  # query - key >= 0 within the chunk on the diagonal
        edge = p[:, step["masked"] : seen]
        nisa.affine_select(edge, [[-1, seen - step["masked"]]], 1, edge, 0.0, cmp_op=nl.greater_equal)
    nisa.activation(less_d, nl.copy, d_p, bias=statistics[:, 1:2])


def _values(memory: dict[str, Any], made: dict[str, Any], step: dict[str, Any], at: int) -> None:
    """dS, and what the tile adds to dV."""
    rows, seen = step["rows"], step["seen"]
    p = memory["p"][at % 3][0:rows, 0:seen]
    ds = memory["ds"][at % 4][0:rows, 0:seen]
    nisa.tensor_tensor(ds, memory["less_d"][at % 2][0:rows, 0:seen], p, op=nl.multiply, engine=nisa.engine.vector)
    _add_keys(memory["dv_sum"], p, memory["d_out"][step["place"]][0:rows], step)
    if step["closes"]:
        _close(memory["dv_sum"], made, "dv", step, 1.0)


def _add_keys(sums: Any, left: Any, right: Any, step: dict[str, Any]) -> None:
    """What a tile adds to the gradients of the keys it sees, chunk by chunk."""
    for chunk in range(-(-step["seen"] // TILE)):
        first, last = chunk * TILE, min(chunk * TILE + TILE, step["seen"])
        target = sums[0 : last - first, chunk]
        nisa.nc_matmul(target, left[:, first:last], right, accumulate=chunk < step["new_chunk"])


def _close(sums: Any, made: dict[str, Any], name: str, step: dict[str, Any], scale: float) -> None:
    """Write the gradients of a block of keys; between passes over heads in float32, to be added to by the next."""
    final = made[name][step["batch"], step["kv_head"], step["key"] : step["key"] + step["width"]]
    target = final if step["last_pass"] else made[name + "_part"][step["key"] : step["key"] + step["width"]]
    whole, rest = step["width"] // TILE, step["width"] % TILE
    alone = step["first_pass"]
    tile = nl.ndarray(sums.shape, target.dtype if alone else nl.float32)
    if whole > 0:
        nisa.activation(tile[:, 0:whole], nl.copy, sums[:, 0:whole], scale=scale)
    if rest > 0:
        nisa.activation(tile[0:rest, whole], nl.copy, sums[0:rest, whole], scale=scale)
    if not alone:
        before, total = nl.ndarray(sums.shape, nl.float32), nl.ndarray(sums.shape, target.dtype)
        _rows_in(before, made[name + "_part"][step["key"] : step["key"] + step["width"]])
        if whole > 0:
            nisa.tensor_tensor(
                total[:, 0:whole], tile[:, 0:whole], before[:, 0:whole], op=nl.add, engine=nisa.engine.gpsimd
            )
        if rest > 0:
            nisa.tensor_tensor(
                total[0:rest, whole], tile[0:rest, whole], before[0:rest, whole], op=nl.add, engine=nisa.engine.gpsimd
            )
        tile = total
    _rows_out(target, tile)


def _turn(memory: dict[str, Any], step: dict[str, Any], at: int) -> None:
    """Transpose dS into PSUM, its chunks side by side."""
    rows, seen, half = step["rows"], step["seen"], at % memory["halves"]
    ds = memory["ds"][at % 4][0:rows, 0:seen]
    for chunk in range(-(-seen // TILE)):
        first, last = chunk * TILE, min(chunk * TILE + TILE, seen)
        target = memory["turned"][0 : last - first, half, chunk * rows : chunk * rows + rows]
        nisa.nc_transpose(target, ds[:, first:last], engine=nisa.engine.tensor)


def _keys(memory: dict[str, Any], made: dict[str, Any], step: dict[str, Any], at: int, scale: float) -> None:
    """What the tile adds to dK; dS transposed on its way to SBUF."""
    rows, seen, half = step["rows"], step["seen"], at % memory["halves"]
    whole, rest, turned = seen // TILE * rows, seen % TILE, memory["ds_turned"][at % 3]
    if whole > 0:
        nisa.tensor_copy(turned[:, 0:whole], memory["turned"][:, half, 0:whole], engine=nisa.engine.vector)
    if rest > 0:
        source = memory["turned"][0:rest, half, whole : whole + rows]
        nisa.tensor_copy(turned[0:rest, whole : whole + rows], source, engine=nisa.engine.vector)
    ds = memory["ds"][at % 4][0:rows, 0:seen]
    _add_keys(memory["dk_sum"], ds, memory["q"][step["place"]][0:rows], step)
    if step["closes"]:
        _close(memory["dk_sum"], made, "dk", step, scale)


def _queries(memory: dict[str, Any], made: dict[str, Any], step: dict[str, Any], at: int, scale: float) -> None:
    """What the block adds to dQ of the tile; its last one writes it."""
    block, row, rows, seen = step["turn"] % UNDER_WAY, step["row"], step["rows"], step["seen"]
    turned, product = memory["ds_turned"][at % 3], memory["dq_sum"][0:rows, at % 2]
    for chunk in range(-(-seen // TILE)):
        high = min(TILE, seen - chunk * TILE)
        left = turned[0:high, chunk * rows : chunk * rows + rows]
        nisa.nc_matmul(product, left, memory["k"][block][0:high, chunk], accumulate=chunk > 0)
    total = memory["dq"][step["sum"]][0:rows]
    result = total
    if step["final"]:
        if step["shared"]:
            target = made["dq_parts"][nl.program_id(0), step["in_group"], row : row + rows]
        else:
            target = made["dq"][step["batch"], step["head"], row : row + rows]
        result = nl.ndarray((rows, memory["dim"]), target.dtype)
    if step["fresh"]:
        nisa.activation(result, nl.copy, product, scale=scale)
    else:
        nisa.scalar_tensor_tensor(result, product, nl.multiply, scale, nl.add, total)
    if step["final"]:
        nisa.dma_copy(target, result)


def _unseen(made: dict[str, Any], keys: int) -> None:
    """Zeros for keys that no query sees."""
    batch, heads, kv_len, dim = made["dk"].shape
    if keys == kv_len:
        return
    zeros = nl.ndarray((TILE, dim), made["dk"].dtype)
    nisa.memset(zeros, 0.0)
    for pair in range(batch * heads):
        if pair % nl.num_programs() == nl.program_id(0):
            for key in range(keys, kv_len, TILE):
                high = min(TILE, kv_len - key)
                nisa.dma_copy(made["dk"][pair // heads, pair % heads, key : key + high], zeros[0:high])
                nisa.dma_copy(made["dv"][pair // heads, pair % heads, key : key + high], zeros[0:high])


def _exchange(made: dict[str, Any], keys: int, causal: bool) -> None:
    """Add up dQ of the pair whose blocks the cores shared; of its tiles each core does every second one."""
    nisa.core_barrier(made["dq_parts"], (0, 1))
    _, group, q_len, dim = made["dq_parts"].shape
    batch, heads = made["dq"].shape[0], made["dq"].shape[1]
    for head in range(group):
        for tile in range(-(-q_len // TILE)):
            row = tile * TILE
            rows = min(TILE, q_len - row)
            if keys_of_tile(row, rows, keys, causal) > BLOCK and (head + tile) % 2 == nl.program_id(0):
                parts = nl.ndarray((rows, 2, dim), nl.float32)
                for core in range(2):
                    nisa.dma_copy(parts[:, core], made["dq_parts"][core, head, row : row + rows])
                total = nl.ndarray((rows, dim), made["dq"].dtype)
                nisa.tensor_tensor(total, parts[:, 0], parts[:, 1], op=nl.add, engine=nisa.engine.vector)
                nisa.dma_copy(made["dq"][batch - 1, heads - group + head, row : row + rows], total)
