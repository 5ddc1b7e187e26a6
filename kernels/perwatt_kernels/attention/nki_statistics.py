"""Log-sum-exp of attention's queries, by heads, in steps between which other work goes on.

Of each tile of queries a column holds the negated maximum of its scores and the reciprocal of the sum of its weights.
``run`` is the state of the kernel that calls (nki_forward).
"""

from __future__ import annotations

from typing import Any

from perwatt_kernels.attention.nki_work import TILE
from perwatt_kernels.nki_interpreter.api import nisa, nl

STEPS = 4


def column(run: Any, item: Any) -> Any:
    """Where the negated maximum and the reciprocal of the sum are kept of an item's queries."""
    if item["column"] == 0 and run["statistics"][item["head"]] == 0:
        tiles = -(-run["q"].shape[2] // TILE)
        lows, shares = nl.ndarray((TILE, tiles), nl.float32), nl.ndarray((TILE, tiles), nl.float32)
        nisa.memset(lows, 0.0, engine=nisa.engine.gpsimd)
        nisa.memset(shares, 1.0, engine=nisa.engine.gpsimd)
        run["statistics"][item["head"]] = (lows, shares)
    lows, shares = run["statistics"][item["head"]]
    rows, at = item["rows"], item["column"]
    return lows[0:rows, at : at + 1], shares[0:rows, at : at + 1]


def close(run: Any, number: int) -> None:
    """Queue a head whose last item is through, up to 128 of its tiles at a time."""
    last = run["items"][number]
    first = number
    while first > 0 and run["items"][first - 1]["head"] == last["head"]:
        first -= 1
    for begin in range(0, last["column"] + 1, TILE):
        count = min(TILE, last["column"] + 1 - begin)
        lows, shares = run["statistics"][last["head"]]
        run["closing"].append({
            "step": 0, "first": first, "last": number, "begin": begin, "count": count,
            "lows": lows[:, begin : begin + count], "tile": shares[:, begin : begin + count],
        })  # fmt: skip
    run["statistics"][last["head"]] = 0


def advance(run: Any) -> None:
    """The next step of every head that is queued; called once for each item, so that no engine waits for the last."""
    left = []
    for part in run["closing"]:
        if part["step"] == 0:
            _logarithms(part)
        elif part["step"] == 1:
            _log_sums(part)
        elif part["step"] == 2:
            _in_rows(part)
        else:
            _written(run, part)
        part["step"] += 1
        if part["step"] < STEPS:
            left.append(part)
    run["closing"] = left


def _logarithms(part: Any) -> None:
    logs = nl.ndarray((TILE, part["count"]), nl.float32)
    nisa.activation(logs, nl.log, part["tile"])
    part["tile"] = logs


def _log_sums(part: Any) -> None:
    """The maximum plus the logarithm of the sum; both are there with the other sign."""
    found = nl.ndarray((TILE, part["count"]), nl.float32)
    nisa.scalar_tensor_tensor(found, part["tile"], nl.multiply, -1.0, nl.subtract, part["lows"])
    part["tile"] = found


def _in_rows(part: Any) -> None:
    """Queries of a tile side by side, as they lie in HBM."""
    psum = nl.ndarray((part["count"], TILE), nl.float32, buffer=nl.psum)
    nisa.nc_transpose(psum, part["tile"], engine=nisa.engine.tensor)
    part["tile"] = psum


def _written(run: Any, part: Any) -> None:
    found, heads = nl.ndarray((part["count"], TILE), nl.float32), run["q"].shape[1]
    nisa.tensor_copy(found, part["tile"], engine=nisa.engine.vector)
    for number in range(part["first"], part["last"] + 1):
        item = run["items"][number]
        at, row, rows = item["column"] - part["begin"], item["row"], item["rows"]
        if item["last"] and at >= 0 and at < part["count"]:
            lse = run["lse"][item["head"] // heads, item["head"] % heads, row : row + rows]
            nisa.dma_copy(lse, found[at : at + 1, 0:rows])
