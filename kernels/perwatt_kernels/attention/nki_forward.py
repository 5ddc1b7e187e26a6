"""Flash attention in NKI, forward: any edge sizes, grouped heads, log-sum-exp saved, one core or two (docs/kernels.md).

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

from perwatt_kernels.attention.nki_work import COLUMNS, TILE, blocks, items, scores_due
from perwatt_kernels.nki_interpreter.api import nisa, nl

LEAD = 3  # blocks of scores that are made beyond the item that follows
EARLY = 1  # blocks by which weights precede their transposes
LATE = 2  # blocks by which results leave after the last transpose of their item
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
    run = {
        "q": q, "k": k, "v": v, "out": out, "lse": lse, "scale": scale, "items": todo, "blocks": steps,
        "keys": [None] * (k.shape[0] * k.shape[1]), "values": [None] * (k.shape[0] * k.shape[1]),
        "queries": [None] * len(todo), "peaks": [None] * len(todo), "lows": [None] * len(todo),
        "sums": [None] * len(todo), "totals": [None] * len(todo), "statistics": [None] * (q.shape[0] * q.shape[1]),
        "scores": [None] * len(steps), "weights": [None] * len(steps), "turned": [None] * len(steps),
        "mask": None,
    }  # fmt: skip
    if causal and len(todo) > 0:
        run["mask"] = _mask(scale)
    due, scored, weighed = scores_due(steps, LEAD), 0, 0
    for at in range(len(steps) + LATE):
        if at < len(steps):
            for ahead in range(scored, due[at]):
                _score(run, ahead)
            scored = max(scored, due[at])
        for ahead in range(weighed, min(at + EARLY + 1, len(steps))):
            _weigh(run, ahead)
            weighed = ahead + 1
        if at < len(steps):
            _turn(run, at)
        if at >= 1 and at - 1 < len(steps):
            _sum(run, at - 1)
        if at >= LATE and steps[at - LATE]["last"]:
            _finish(run, steps[at - LATE]["item"])
    return out, lse


def _mask(scale: float) -> Any:
    """An identity, and what is added to the scores where queries meet the keys of their own positions."""
    ones, zeros = nl.ndarray((TILE, TILE), nl.bfloat16), nl.ndarray((TILE, TILE), nl.bfloat16)
    identity, triangle = nl.ndarray((TILE, TILE), nl.bfloat16), nl.ndarray((TILE, TILE), nl.bfloat16)
    nisa.memset(ones, 1.0)
    nisa.memset(zeros, 0.0)
    nisa.affine_select(identity, [[-1, TILE]], 1, ones, 0.0, cmp_op=nl.equal)
    nisa.affine_select(triangle, [[-1, TILE]], 1, zeros, FILL / max(scale, 1.0), cmp_op=nl.greater_equal)
    return identity, triangle


def _score(run: Any, at: int) -> None:
    """Scaled scores of a block in SBUF, and behind the last one of an item, their negated maximum."""
    block = run["blocks"][at]
    item = run["items"][block["item"]]
    rows, start, width = item["rows"], block["start"], block["width"]
    if block["first"]:
        _fetch(run, block["item"])
    queries, keys = run["queries"][block["item"]], run["keys"][item["pair"]][start // COLUMNS]
    psum = nl.ndarray((rows, width), nl.float32, buffer=nl.psum)
    nisa.nc_matmul(psum, queries, keys[:, 0:width], accumulate=False)
    if run["mask"] != None and start <= item["row"] and item["row"] < start + width:  # noqa: E711
        identity, triangle = run["mask"]
        at_row = item["row"] - start
        wide = min(rows, width - at_row)
        nisa.nc_matmul(psum[:, at_row : at_row + wide], identity[0:rows, 0:rows], triangle[0:rows, 0:wide],
                       accumulate=True)  # fmt: skip
    _scale(run, at, psum)
    if block["last"]:
        run["queries"][block["item"]] = None


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
        low = nl.ndarray((rows, 1), nl.float32)
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
    run["weights"][at], run["scores"][at] = weights, None


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
    run["turned"][at], run["weights"][at] = turned, None


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
        _values(run, number)
        run["sums"][number] = nl.ndarray((item["rows"], run["v"].shape[3]), nl.float32, buffer=nl.psum)
    for tile in range(-(-block["width"] // TILE)):
        deep = min(TILE, block["width"] - tile * TILE)
        values = run["values"][item["pair"]][block["start"] // TILE + tile]
        part = run["turned"][at][0:deep, tile * item["rows"] : (tile + 1) * item["rows"]]
        nisa.nc_matmul(run["sums"][number], part, values[0:deep, :], accumulate=not (block["first"] and tile == 0))
    run["turned"][at] = None


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
        run["sums"][number] = None
    if item["closes"]:
        _log(run, number)


def _rescale(run: Any, number: int) -> None:
    """Sums of a section, and of those before it, whose maximum may have been lower."""
    before, sums, total = run["sums"][number - 1], run["sums"][number], run["totals"][number]
    factor, added = nl.ndarray(total.shape, nl.float32), nl.ndarray(total.shape, nl.float32)
    carried = nl.ndarray(sums.shape, nl.float32)
    nisa.activation(factor, nl.exp, run["lows"][number], bias=run["peaks"][number - 1])
    nisa.scalar_tensor_tensor(carried, before, nl.multiply, factor, nl.add, sums)
    nisa.scalar_tensor_tensor(added, run["totals"][number - 1], nl.multiply, factor, nl.add, total)
    run["sums"][number - 1], run["sums"][number], run["totals"][number] = None, carried, added


def _store(run: Any, number: int) -> None:
    """Results of a tile, and what its log-sum-exp is made of."""
    item = run["items"][number]
    batch, head = item["head"] // run["q"].shape[1], item["head"] % run["q"].shape[1]
    low, share = _statistics(run, number)
    nisa.tensor_copy(low, run["lows"][number], engine=nisa.engine.vector)
    nisa.reciprocal(share, run["totals"][number])
    result = nl.ndarray(run["sums"][number].shape, run["q"].dtype)
    nisa.activation(result, nl.copy, run["sums"][number], scale=share)
    nisa.dma_copy(run["out"][batch, head, item["row"] : item["row"] + item["rows"], :], result)


def _statistics(run: Any, number: int) -> Any:
    """Where the negated maximum and the reciprocal of the sum of weights of a tile's queries are kept, by head."""
    item = run["items"][number]
    if run["statistics"][item["head"]] == None:  # noqa: E711
        tiles = -(-run["q"].shape[2] // TILE)
        lows, shares = nl.ndarray((TILE, tiles), nl.float32), nl.ndarray((TILE, tiles), nl.float32)
        nisa.memset(lows, 0.0, engine=nisa.engine.gpsimd)
        nisa.memset(shares, 1.0, engine=nisa.engine.gpsimd)
        run["statistics"][item["head"]] = (lows, shares)
    lows, shares = run["statistics"][item["head"]]
    rows, column = item["rows"], item["column"]
    return lows[0:rows, column : column + 1], shares[0:rows, column : column + 1]


def _log(run: Any, number: int) -> None:
    """Log-sum-exp of a head's queries: of its tiles, up to 128 at once."""
    head, tiles = run["items"][number]["head"], run["items"][number]["column"] + 1
    lows, shares = run["statistics"][head]
    for begin in range(0, tiles, TILE):
        count = min(TILE, tiles - begin)
        logs, found = nl.ndarray((TILE, count), nl.float32), nl.ndarray((TILE, count), nl.float32)
        nisa.activation(logs, nl.log, shares[:, begin : begin + count])
        nisa.scalar_tensor_tensor(found, logs, nl.multiply, -1.0, nl.subtract, lows[:, begin : begin + count])
        psum = nl.ndarray((count, TILE), nl.float32, buffer=nl.psum)
        turned = nl.ndarray((count, TILE), nl.float32)
        nisa.nc_transpose(psum, found, engine=nisa.engine.tensor)
        nisa.tensor_copy(turned, psum, engine=nisa.engine.vector)
        for at in range(number + 1):
            item = run["items"][at]
            if item["head"] == head and item["last"] and begin <= item["column"] and item["column"] < begin + count:
                batch, member, row = head // run["q"].shape[1], head % run["q"].shape[1], item["row"]
                column = item["column"] - begin
                nisa.dma_copy(run["lse"][batch, member, row : row + item["rows"]],
                              turned[column : column + 1, 0 : item["rows"]])  # fmt: skip
    run["statistics"][head] = None


def _fetch(run: Any, number: int) -> None:
    """Load the operands of an item's scores, and of those that follow as far as they fit."""
    todo = run["items"]
    if number > 0 and todo[number - 1]["pair"] != todo[number]["pair"]:
        run["keys"][todo[number - 1]["pair"]] = None
    roomy = _roomy(run)
    for ahead in range(number, min(number + FETCHED, len(todo))):
        item = todo[ahead]
        if run["queries"][ahead] == None:  # noqa: E711
            batch, head = item["head"] // run["q"].shape[1], item["head"] % run["q"].shape[1]
            run["queries"][ahead] = _turned(run["q"], batch, head, item["row"], item["rows"])
        if run["keys"][item["pair"]] == None and (ahead == number or roomy):  # noqa: E711
            _load(run, item["pair"], True, roomy)


def _roomy(run: Any) -> bool:
    """Whether keys and values of two heads fit."""
    size = 4 if run["k"].dtype == nl.float32 else 2
    return 2 * held(run["k"].shape[2], run["k"].shape[3], size) + SPARE <= nl.tile_size.sbuf_fmax_bytes


def _values(run: Any, number: int) -> None:
    """See to it that the values of an item are loaded."""
    todo = run["items"]
    if number > 0 and todo[number - 1]["pair"] != todo[number]["pair"]:
        run["values"][todo[number - 1]["pair"]] = None
    if run["values"][todo[number]["pair"]] == None:  # noqa: E711
        _load(run, todo[number]["pair"], False, True)


def _load(run: Any, pair: int, keys: bool, values: bool) -> None:
    """Keys of a head, turned, by blocks, and its values by tiles."""
    k, v = run["k"], run["v"]
    batch, head = pair // k.shape[1], pair % k.shape[1]
    kv_len, dim = k.shape[2], k.shape[3]
    if run["mask"] != None:  # noqa: E711
        kv_len = min(kv_len, run["q"].shape[2])
    blocks_of, tiles_of = [], []
    for start in range(0, kv_len, COLUMNS):
        end = min(start + COLUMNS, kv_len)
        if keys:
            blocks_of.append(_turned(k, batch, head, start, end - start))
        if values:
            for key in range(start, end, TILE):
                deep = min(TILE, end - key)
                tile = nl.ndarray((deep, dim), v.dtype)
                nisa.dma_copy(tile, v[batch, head, key : key + deep, :])
                tiles_of.append(tile)
    if keys:
        run["keys"][pair] = blocks_of
    if values:
        run["values"][pair] = tiles_of


def _turned(source: Any, batch: int, head: int, start: int, count: int) -> Any:
    """Rows of a head with its dim on partitions: turned by DMA, or where that cannot, by Tensor."""
    dim = source.shape[3]
    found = nl.ndarray((dim, count), source.dtype)
    if nisa.get_nc_version() != nisa.nc_version.gen2:
        nisa.dma_transpose(found, source[batch, head, start : start + count, :])
        return found
    for at in range(0, count, TILE):
        rows = min(TILE, count - at)
        plain = nl.ndarray((rows, dim), source.dtype)
        psum = nl.ndarray((dim, rows), source.dtype, buffer=nl.psum)
        nisa.dma_copy(plain, source[batch, head, start + at : start + at + rows, :])
        nisa.nc_transpose(psum, plain, engine=nisa.engine.tensor)
        nisa.tensor_copy(found[:, at : at + rows], psum, engine=nisa.engine.vector)
    return found
