"""Flash attention's gradients in NKI, from the forward's log-sum-exp, on one core or two (docs/nki.md).

For scores S = scale q k^T, P = exp(S - lse) and D = the sum of out * d_out over a row (Dao 2023, algorithm 2):

    dV = P^T dO        dS = P * (dO V^T - D)        dQ = scale dS K        dK = scale dS^T Q

A core goes through blocks of 512 keys. For each it goes through the query heads that share the keys, and through their
tiles of 128 queries that see any of the block. dV and dK of a block add up in a bank of PSUM each, dQ of a tile adds up
in SBUF in float32 until its last block. Queries lie on partitions, so P and dS are stationary operands for dV and dK as
they are, and only dS is transposed, for dQ.

One block and one tile make a step. Engines work on several steps at once: while the tensor engine multiplies the scores
of one, Scalar and Vector are at those before, and tiles of later ones are loaded.

Cores share the pairs of batch and key head. Of one that is left over they share the query heads, and exchange dK and dV
in float32; or, if these are odd, the blocks, and exchange dQ.
"""

from __future__ import annotations

from typing import Any

from perwatt_kernels.attention.nki_backward_steps import (
    BLOCK,
    LEAD,
    TILE,
    UNDER_WAY,
    by_heads,
    kept_heads,
    keys_seen,
    shared_pair,
    steps_of,
)  # fmt: skip
from perwatt_kernels.attention.nki_backward_tiles import load, memory_of, results_of, rows_in, rows_out, statistics
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
    made = results_of(q, k, kept < group, exchanged)
    memory = memory_of(q.dtype, size, dim, kept, -(-q_len // TILE), resident)
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
            statistics(memory, steps[at - LEAD + 1], at - LEAD + 1)
        if _due(steps, at):
            load(memory, given, steps[at], at)
    _unseen(made, keys_seen(q_len, k.shape[2], causal))
    if exchanged:
        _exchange_all(made, group, keys_seen(q_len, k.shape[2], causal), causal)
    return made["dq"], made["dk"], made["dv"]


def _due(steps: list[Any], at: int) -> bool:
    return at >= 0 and at < len(steps)


def _scores(memory: dict[str, Any], step: dict[str, Any], at: int, scale: float) -> None:
    """P and dP - D."""
    place, block, rows, seen = step["place"], step["turn"] % UNDER_WAY, step["rows"], step["seen"]
    scores, d_p = memory["scores"][at % 2][0:rows, 0:seen], memory["d_p"][at % 2][0:rows, 0:seen]
    k, v = memory["k_turned"][block][:, 0:seen], memory["v_turned"][block][:, 0:seen]
    nisa.nc_matmul(scores, memory["q_turned"][place][:, 0:rows], k, accumulate=False)
    nisa.nc_matmul(d_p, memory["d_out_turned"][place][:, 0:rows], v, accumulate=False)
    p, less_d = memory["p"][at % 3][0:rows, 0:seen], memory["less_d"][at % 2][0:rows, 0:seen]
    columns = memory["statistics"][step["sum"]][0:rows]
    nisa.activation(p, nl.exp, scores, bias=columns[:, 0:1], scale=scale)
    if step["masked"] < seen:  # query - key >= 0 within the chunk on the diagonal
        edge = p[:, step["masked"] : seen]
        nisa.affine_select(edge, [[-1, seen - step["masked"]]], 1, edge, 0.0, cmp_op=nl.greater_equal)
    nisa.activation(less_d, nl.copy, d_p, bias=columns[:, 1:2])


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
    target = final
    if not step["last_pass"]:
        target = made[name + "_part"][step["key"] : step["key"] + step["width"]]
    elif step["keys_shared"]:
        target = made[name + "_cores"][nl.program_id(0), step["key"] : step["key"] + step["width"]]
    whole, rest = step["width"] // TILE, step["width"] % TILE
    alone = step["first_pass"]
    tile = nl.ndarray(sums.shape, target.dtype if alone else nl.float32)
    if whole > 0:
        nisa.activation(tile[:, 0:whole], nl.copy, sums[:, 0:whole], scale=scale)
    if rest > 0:
        nisa.activation(tile[0:rest, whole], nl.copy, sums[0:rest, whole], scale=scale)
    if not alone:
        before, total = nl.ndarray(sums.shape, nl.float32), nl.ndarray(sums.shape, target.dtype)
        rows_in(before, made[name + "_part"][step["key"] : step["key"] + step["width"]])
        if whole > 0:
            nisa.tensor_tensor(
                total[:, 0:whole], tile[:, 0:whole], before[:, 0:whole], op=nl.add, engine=nisa.engine.gpsimd
            )
        if rest > 0:
            nisa.tensor_tensor(
                total[0:rest, whole], tile[0:rest, whole], before[0:rest, whole], op=nl.add, engine=nisa.engine.gpsimd
            )
        tile = total
    rows_out(target, tile)


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
            target = made["dq_cores"][nl.program_id(0), step["in_group"], row : row + rows]
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


def _exchange_all(made: dict[str, Any], group: int, keys: int, causal: bool) -> None:
    """Add up what both cores have of the pair that they shared."""
    batch, kv_heads = made["dk"].shape[0], made["dk"].shape[1]
    if by_heads(group, nl.num_programs()):
        for name in ("dk", "dv"):
            nisa.core_barrier(made[name + "_cores"], (0, 1))
            _exchange(made[name][batch - 1, kv_heads - 1], made[name + "_cores"], 0, keys)
    elif keys > BLOCK:  # else one core had the only block
        nisa.core_barrier(made["dq_cores"], (0, 1))
        for head in range(group):
            target = made["dq"][batch - 1, kv_heads * group - group + head]
            _exchange(target, made["dq_cores"][:, head], BLOCK if causal else 0, target.shape[0])


def _exchange(target: Any, parts: Any, start: int, stop: int) -> None:
    """Sums of both cores' parts of rows; each core does every second tile."""
    for row in range(start, stop, TILE):
        rows = min(TILE, stop - row)
        if row // TILE % 2 == nl.program_id(0):
            both = nl.ndarray((rows, 2, target.shape[1]), nl.float32)
            for core in range(2):
                nisa.dma_copy(both[:, core], parts[core, row : row + rows])
            total = nl.ndarray((rows, target.shape[1]), target.dtype)
            nisa.tensor_tensor(total, both[:, 0], both[:, 1], op=nl.add, engine=nisa.engine.vector)
            nisa.dma_copy(target[row : row + rows], total)
