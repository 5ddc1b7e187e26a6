"""How wide a number format is: chips are chosen between among lines of one width, never across."""

from __future__ import annotations

from perwatt.hardware.sheet import KINDS
from perwatt.spec.precision import POLICIES

BITS = {"fp64": 64, "fp32": 32, "tf32": 19, "bf16": 16, "fp16": 16, "fp8": 8, "mxfp8": 8, "int8": 8, "fp4": 4}
PEAKS = {64: ("fp64",), 32: ("fp32",), 19: ("tf32",), 16: ("bf16", "fp16"), 8: ("fp8", "mxfp8"), 4: ("fp4",)}
"""Kinds of format of each width that a sheet may have a peak for, the first one first."""


def width(precision: str) -> int | None:
    """Bits of the operands of products in a policy, or in a format as a source calls it; None for any other text."""
    known = POLICIES.get(precision)
    name = known.compute if known else precision.split(" ")[0]
    kinds = (kind for kind, formats in KINDS.items() if name == kind or name in formats)
    return next((BITS[kind] for kind in kinds if kind in BITS), BITS.get(name))
