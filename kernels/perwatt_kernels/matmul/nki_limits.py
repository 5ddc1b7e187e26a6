"""What the product in NKI takes: formats, shapes, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perwatt_kernels.nki_interpreter.hardware import Generation

FORMATS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
# Whether the depth is the last axis in memory of the left and of the right operand, as a linear layer has them:
# y = x w^T, dx = dy w, dw = dy^T x with x [tokens, in], w [out, in], dy [tokens, out].
TURNED = {"fwd": (True, True), "dgrad": (True, False), "wgrad": (False, False)}


def extents(product: str, sizes: Mapping[str, int]) -> tuple[int, int, int]:
    """Rows, columns and depth of a product; sizes are tokens ``m``, output features ``n``, input features ``k``."""
    m, n, k = sizes["m"], sizes["n"], sizes["k"]
    return {"fwd": (m, n, k), "dgrad": (m, k, n), "wgrad": (n, k, m)}[product]


def shapes(product: str, sizes: Mapping[str, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Of both operands in memory."""
    rows, columns, depth = extents(product, sizes)
    left, right = TURNED[product]
    return (rows, depth) if left else (depth, rows), (columns, depth) if right else (depth, columns)


def unsupported(product: str, sizes: Mapping[str, int], gen: Generation, size: int = 2) -> str | None:
    """Why a product of elements of so many bytes cannot be done on a generation, with what can; None if it can."""
    if min(sizes.values()) < 1:
        return f"found {dict(sizes)}, expected sizes of 1 or more"
    return None
