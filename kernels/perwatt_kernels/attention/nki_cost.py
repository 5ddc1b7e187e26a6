"""What attention in NKI costs: kernels for ``perwatt kernels cost``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perwatt_kernels.attention.mask import pairs
from perwatt_kernels.attention.nki_limits import FORMATS, unsupported
from perwatt_kernels.nki_interpreter.costed import Costed, Sizes

ROWS, COLUMNS = 128, 512  # queries and keys of a block
FORWARD, BACKWARD = 9, 18  # of a block: scores, and by 128 keys the weights turned and the sum; five products, and dS
EXTENTS = ("batch", "heads", "kv_heads", "seq", "head_dim")


def _lengths(sizes: Sizes) -> dict[str, int]:
    """Sizes with the length of queries and that of keys."""
    return {**sizes, "q_len": sizes["seq"], "kv_len": sizes["seq"]}


def _pairs(sizes: Sizes, causal: bool) -> int:
    """Visible query-key pairs of all heads."""
    params = {"causal": causal, "window": 0, "varlen": None}
    return sizes["batch"] * sizes["heads"] * pairs(sizes["seq"], sizes["seq"], params)


def _instructions(sizes: Sizes, causal: bool, each: int) -> int:
    """Of the tensor engine, ``each`` for a block of queries and keys."""
    blocks = sizes["batch"] * sizes["heads"] * -(-sizes["seq"] // ROWS) * -(-sizes["seq"] // COLUMNS)
    return each * blocks // (2 if causal else 1)


def _elements(sizes: Sizes) -> tuple[int, int]:
    """Of the queries, or the result, and of the keys, or values."""
    each = sizes["batch"] * sizes["seq"] * sizes["head_dim"]
    return each * sizes["heads"], each * sizes["kv_heads"]


def _forward(causal: bool) -> Costed:
    def build(sizes: Mapping[str, int], dtype: str, lnc: int) -> tuple[Any, tuple[Any, ...]]:
        from perwatt_kernels.attention.nki_forward import attention_forward
        from perwatt_kernels.nki_interpreter.launch import Kernel, Spec

        queries, keys = (
            Spec((sizes["batch"], sizes[heads], sizes["seq"], sizes["head_dim"]), dtype)
            for heads in ("heads", "kv_heads")
        )
        return Kernel(attention_forward, lnc), (queries, keys, keys, causal, sizes["head_dim"] ** -0.5)

    def compulsory(sizes: Sizes, size: int) -> int:
        queries, keys = _elements(sizes)  # q, out and lse; k, v
        return 2 * size * (queries + keys) + 4 * queries // sizes["head_dim"]

    return Costed(
        operation="attention" if causal else "attention_full", impl="nki", workload="attention", extents=EXTENTS,
        formats=FORMATS, build=build, params={"causal": causal},
        unsupported=lambda sizes, gen, size: unsupported("fwd", _lengths(sizes), gen, size),
        useful=lambda sizes: 2 * sizes["head_dim"] * _pairs(sizes, causal), compulsory=compulsory,
        instructions=lambda sizes: _instructions(sizes, causal, FORWARD),
    )  # fmt: skip


def _backward(causal: bool) -> Costed:
    def build(sizes: Mapping[str, int], dtype: str, lnc: int) -> tuple[Any, tuple[Any, ...]]:
        from perwatt_kernels.attention.nki_backward import attention_backward
        from perwatt_kernels.nki_interpreter.launch import Kernel, Spec

        queries, keys = (
            Spec((sizes["batch"], sizes[heads], sizes["seq"], sizes["head_dim"]), dtype)
            for heads in ("heads", "kv_heads")
        )
        lse = Spec(queries.shape[:3], "float32")
        args = (queries, keys, keys, queries, lse, queries, causal, sizes["head_dim"] ** -0.5)
        return Kernel(attention_backward, lnc), args

    # The scores computed anew are no part of the operation, as for a workload's row (docs/method.md, 7): four products.
    def compulsory(sizes: Sizes, size: int) -> int:
        queries, keys = _elements(sizes)  # q, out, d_out, dq, and lse; k, v, dk, dv
        return 4 * size * (queries + keys) + 4 * queries // sizes["head_dim"]

    return Costed(
        operation="attention_bwd" if causal else "attention_bwd_full", impl="nki", workload="attention",
        extents=EXTENTS, formats=FORMATS, build=build, params={"causal": causal}, pass_="bwd",
        unsupported=lambda sizes, gen, size: unsupported("bwd", _lengths(sizes), gen, size),
        useful=lambda sizes: 4 * sizes["head_dim"] * _pairs(sizes, causal), compulsory=compulsory,
        instructions=lambda sizes: _instructions(sizes, causal, BACKWARD),
    )  # fmt: skip


COSTED = tuple(make(causal) for make in (_forward, _backward) for causal in (True, False))
