"""Flash attention in NKI, forward: any edge sizes, grouped heads, log-sum-exp saved, one core or two (docs/nki.md).

Of a tile of 128 queries, a *section* of up to 8192 keys is worked on at once: all its scores are made before the first
is exponentiated, so the maximum is exact, the weighted sum adds up in PSUM over the whole section, and nothing is
rescaled but between sections. Blocks of 512 keys pass four stages, each some blocks behind the one before:

- scores: Tensor multiplies queries with keys, and adds the causal mask as a further product; Vector scales them on
  their way from PSUM to SBUF, with their maximum as a by-product;
- weights: Scalar exponentiates and rounds to the operands' format, with the sum before rounding as a by-product;
- turned: Tensor transposes the weights, Vector and Scalar in turn take them from PSUM to SBUF;
- sums: Tensor multiplies them with the values.

Engines keep the order of the program, so what is issued in one step belongs to blocks that do not wait for each other.
Keys past the diagonal are never touched.
"""

from __future__ import annotations

from typing import Any

from perwatt_kernels.attention.nki_operands import causal_mask, fetch, fetch_values
from perwatt_kernels.attention.nki_statistics import STEPS, advance, close, column
from perwatt_kernels.attention.nki_work import COLUMNS, TILE, blocks, items, pace
from perwatt_kernels.nki_interpreter.api import nisa, nl

AHEAD, EARLY, BEHIND, LATE = 3, 2, 2, 3  # blocks between the stages (nki_work.pace)


def attention_forward(q: Any, k: Any, v: Any, causal: bool, scale: float) -> Any:
    """Attention, and what a backward needs of it.

    Args:
        q: [batch, heads, q_len, dim] in HBM.
        k: [batch, kv_heads, kv_len, dim].
        v: as ``k``.
        causal: query i sees keys 0 to i.
        scale: of the scores, above 0.

    Returns:
        The result, like ``q``, and [batch, heads, q_len] in float32: the natural logarithm of the sum of exponentials
        of the scaled scores that a query sees.
    """
    out = nl.ndarray(q.shape, q.dtype, buffer=nl.shared_hbm)
    lse = nl.ndarray((q.shape[0], q.shape[1], q.shape[2]), nl.float32, buffer=nl.shared_hbm)
    todo = items(q.shape, k.shape, causal, nl.program_id(0), nl.num_programs())
    steps = blocks(todo)
    heads = q.shape[0] * q.shape[1]
    run = {
        "q": q, "k": k, "v": v, "out": out, "lse": lse, "causal": causal, "scale": scale, "items": todo,
        "blocks": steps, "keys": [], "values": [], "fetched": 0, "statistics": [0] * heads,
        "closing": [], "queries": [0] * len(todo), "lows": [0] * len(todo), "peaks": [0] * len(todo),
        "sums": [0] * len(todo), "totals": [0] * len(todo), "scores": [0] * len(steps), "weights": [0] * len(steps),
        "turned": [0] * len(steps),
    }  # fmt: skip
    _lists(run, k.shape[0] * k.shape[1])
    if causal and len(todo) > 0:
        run["mask"] = causal_mask(scale)
    paces, done = pace(steps, AHEAD, EARLY, BEHIND, LATE), (0, 0, 0, 0)
    for at in range(len(paces)):
        now = paces[at]
        for block in range(done[0], now[0]):
            _score(run, block)
        for block in range(done[1], now[1]):
            _weigh(run, block)
        if at < len(steps):
            _turn(run, at)
        for block in range(done[2], now[2]):
            _sum(run, block)
        for block in range(done[3], now[3]):
            if steps[block]["last"]:
                _finish(run, steps[block]["item"])
        done = now
    for _ in range(STEPS):
        advance(run)
    return out, lse


def _lists(run: Any, pairs: int) -> None:
    """Nothing of any head of keys is loaded yet."""
    for _ in range(pairs):
        run["keys"].append([])
        run["values"].append([])


def _score(run: Any, at: int) -> None:
    """Scaled scores of a block in SBUF, and behind the last one of an item, their negated maximum."""
    block = run["blocks"][at]
    item = run["items"][block["item"]]
    rows, start, width = item["rows"], block["start"], block["width"]
    if block["first"]:
        fetch(run, block["item"])
    queries, keys = run["queries"][block["item"]], run["keys"][item["pair"]][start // COLUMNS]
    psum = nl.ndarray((rows, width), nl.float32, buffer=nl.psum)
    nisa.nc_matmul(psum, queries, keys[:, 0:width], accumulate=False)
    if run["causal"] and start <= item["row"] and item["row"] < start + width:
        identity, triangle = run["mask"]
        at_row = item["row"] - start
        wide = min(rows, width - at_row)
        nisa.nc_matmul(psum[:, at_row : at_row + wide], identity[0:rows, 0:rows], triangle[0:rows, 0:wide],
                       accumulate=True)  # fmt: skip
    _scale(run, at, psum)
    if block["last"]:
        run["queries"][block["item"]] = 0


def _scale(run: Any, at: int, psum: Any) -> None:
    """Scores on their way from PSUM to SBUF."""
    block = run["blocks"][at]
    item = run["items"][block["item"]]
    rows = item["rows"]
    scores = nl.ndarray((rows, block["width"]), nl.float32)
    init, low, command = None, None, nisa.reduce_cmd.reduce
    if block["first"]:
        command = nisa.reduce_cmd.reset_reduce
        if not item["first"]:
            init, command = run["peaks"][block["item"] - 1], nisa.reduce_cmd.load_reduce
    if block["last"]:
        low = column(run, item)[0] if item["last"] else nl.ndarray((rows, 1), nl.float32)
    nisa.tensor_scalar_reduce(
        scores, psum, nl.multiply, run["scale"], nl.maximum, reduce_res=low, reduce_cmd=command, reduce_init=init,
        reduce_res_negate=block["last"],
    )  # fmt: skip
    run["scores"][at] = scores
    if block["last"]:
        run["lows"][block["item"]] = low
        if not item["last"]:
            peak = nl.ndarray((rows, 1), nl.float32)
            nisa.tensor_scalar(peak, low, nl.multiply, -1.0, engine=nisa.engine.vector)
            run["peaks"][block["item"]] = peak


def _weigh(run: Any, at: int) -> None:
    """Exponentials of a block."""
    scores, block = run["scores"][at], run["blocks"][at]
    weights = nl.ndarray(scores.shape, run["q"].dtype)
    total = nl.ndarray((scores.shape[0], 1), nl.float32) if block["last"] else None
    command = nisa.reduce_cmd.reset_reduce if block["first"] else nisa.reduce_cmd.reduce
    nisa.activation(weights, nl.exp, scores, bias=run["lows"][block["item"]], reduce_op=nl.add, reduce_res=total,
                    reduce_cmd=command)  # fmt: skip
    run["totals"][block["item"]] = total
    run["weights"][at], run["scores"][at] = weights, 0


def _turn(run: Any, at: int) -> None:
    """The same with keys on partitions, one tile of them behind the other."""
    weights = run["weights"][at]
    rows, width = weights.shape
    tiles = -(-width // TILE)
    psum = nl.ndarray((min(width, TILE), tiles * rows), weights.dtype, buffer=nl.psum)
    turned = nl.ndarray((min(width, TILE), tiles * rows), weights.dtype)
    for tile in range(tiles):
        deep = min(TILE, width - tile * TILE)
        nisa.nc_transpose(psum[0:deep, tile * rows : (tile + 1) * rows], weights[:, tile * TILE : tile * TILE + deep],
                          engine=nisa.engine.tensor)  # fmt: skip
    whole, on_scalar = width // TILE * rows, at % 2 == 1
    if whole > 0:
        _take(turned[:, 0:whole], psum[:, 0:whole], on_scalar)
    if whole < tiles * rows:
        deep = width % TILE
        _take(turned[0:deep, whole : whole + rows], psum[0:deep, whole : whole + rows], on_scalar)
    run["turned"][at], run["weights"][at] = turned, 0


def _take(dst: Any, psum: Any, on_scalar: bool) -> None:
    """From PSUM to SBUF."""
    if not on_scalar:
        nisa.tensor_copy(dst, psum, engine=nisa.engine.vector)
    elif nisa.get_nc_version() == nisa.nc_version.gen2:
        nisa.activation(dst, nl.copy, psum)
    else:
        nisa.tensor_copy(dst, psum, engine=nisa.engine.scalar)


def _sum(run: Any, at: int) -> None:
    """Add the values of a block by their weights."""
    block = run["blocks"][at]
    item, number = run["items"][block["item"]], block["item"]
    if block["first"]:
        fetch_values(run, number)
        run["sums"][number] = nl.ndarray((item["rows"], run["v"].shape[3]), nl.float32, buffer=nl.psum)
    for tile in range(-(-block["width"] // TILE)):
        deep = min(TILE, block["width"] - tile * TILE)
        values = run["values"][item["pair"]][block["start"] // TILE + tile]
        part = run["turned"][at][0:deep, tile * item["rows"] : (tile + 1) * item["rows"]]
        nisa.nc_matmul(run["sums"][number], part, values[0:deep, :], accumulate=not (block["first"] and tile == 0))
    run["turned"][at] = 0


def _finish(run: Any, number: int) -> None:
    """Behind a section: carry its sums, or divide them by those of the weights and write them."""
    item = run["items"][number]
    if not item["first"]:
        _rescale(run, number)
    elif not item["last"]:
        sums = nl.ndarray(run["sums"][number].shape, nl.float32)
        nisa.tensor_copy(sums, run["sums"][number], engine=nisa.engine.vector)
        run["sums"][number] = sums
    if item["last"]:
        _store(run, number)
        run["sums"][number], run["totals"][number] = 0, 0
    run["lows"][number] = 0
    advance(run)
    if item["closes"]:
        close(run, number)


def _rescale(run: Any, number: int) -> None:
    """Sums of a section, and of those before it, whose maximum may have been lower."""
    before, sums, total = run["sums"][number - 1], run["sums"][number], run["totals"][number]
    factor, added = nl.ndarray(total.shape, nl.float32), nl.ndarray(total.shape, nl.float32)
    carried = nl.ndarray(sums.shape, nl.float32)
    nisa.activation(factor, nl.exp, run["lows"][number], bias=run["peaks"][number - 1])
    nisa.scalar_tensor_tensor(carried, before, nl.multiply, factor, nl.add, sums)
    nisa.scalar_tensor_tensor(added, run["totals"][number - 1], nl.multiply, factor, nl.add, total)
    run["sums"][number], run["totals"][number] = carried, added
    run["sums"][number - 1], run["totals"][number - 1], run["peaks"][number - 1] = 0, 0, 0


def _store(run: Any, number: int) -> None:
    """Results of a tile, and what its log-sum-exp is made of."""
    item = run["items"][number]
    batch, head = item["head"] // run["q"].shape[1], item["head"] % run["q"].shape[1]
    row, rows, share = item["row"], item["rows"], column(run, item)[1]
    nisa.reciprocal(share, run["totals"][number])
    result = nl.ndarray(run["sums"][number].shape, run["q"].dtype)
    nisa.activation(result, nl.copy, run["sums"][number], scale=share)
    nisa.dma_copy(run["out"][batch, head, row : row + rows, :], result)
