"""What the products in NKI take: formats, shapes, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perwatt_kernels.nki_interpreter.hardware import Generation

FORMATS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
# Whether the depth is the last axis in memory of the left and of the right operand, as a linear layer has them:
# y = x w^T, dx = dy w, dw = dy^T x with x [tokens, in], w [out, in], dy [tokens, out].
TURNED = {"fwd": (True, True), "dgrad": (True, False), "wgrad": (False, False)}
PAIR, QUAD = 2, 4  # rows of the depth that lie on one partition: of 8-bit floats, of packed ones


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
    if min(extents(product, sizes)) < 1:
        return f"found {dict(sizes)}, expected sizes of 1 or more"
    return None


def unsupported_fp8(product: str, sizes: Mapping[str, int], gen: Generation, dtype: str) -> str | None:
    """The same of 8-bit floats, two rows of the depth at once; ``dtype`` as NKI calls it."""
    if not gen.tensor.double_row:
        return f"found 8-bit floats on {gen.name}, expected gen3 or newer, whose tensor engine multiplies two at once"
    if dtype == "float8_e4m3fn" and gen.number < 4:
        return f"found {dtype} on {gen.name}, expected float8_e4m3 (precisions of e4m3 that follow IEEE 754), or gen4"
    return unsupported(product, sizes, gen) or _depth(product, sizes, PAIR)


def unsupported_mx(product: str, sizes: Mapping[str, int], gen: Generation, *, outside: bool) -> str | None:
    """The same of MXFP8, operands quantized before or on the chip."""
    if not gen.tensor.packed_depth:
        return f"found MXFP8 on {gen.name}, expected gen4 or newer"
    return unsupported(product, sizes, gen) or _depth(product, sizes, QUAD if outside else PAIR)


def _depth(product: str, sizes: Mapping[str, int], multiple: int) -> str | None:
    """Why a depth does not divide into what lies on one partition; None if it does."""
    depth = extents(product, sizes)[2]
    if depth % multiple == 0:
        return None
    lower, higher = depth // multiple * multiple, -(-depth // multiple) * multiple
    near = f"{lower} or {higher}" if lower else f"{higher}"
    return f"found a depth of {depth} in {product}, expected a multiple of {multiple} such as {near} (pad with zeros)"
