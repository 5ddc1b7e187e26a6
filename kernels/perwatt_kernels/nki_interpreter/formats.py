"""NKI's element formats in NumPy, and how values move between them (shared, supported data types).

A format is known by its name, as in NKI. Arithmetic is done in float32 and rounded to nearest even when written; floats
become integers rounded to nearest even and clipped, of which no page speaks (*assumed*).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from perwatt_kernels.nki_interpreter.errors import Rejected

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """How a format is stored: NumPy's dtype, bytes, and ``float``, ``int`` or ``packed``."""

    name: str
    stored: np.dtype[Any]
    bytes: int
    kind: str
    packs: str = ""  # format of the elements of a packed one


def _format(name: str, stored: Any, kind: str = "float", packs: str = "") -> Format:
    return Format(name, np.dtype(stored), np.dtype(stored).itemsize, kind, packs)


FORMATS = {
    found.name: found
    for found in (
        _format("bool_", np.uint8, "int"),
        *(_format(name, name, "int") for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32")),
        _format("float32", np.float32),
        _format("tfloat32", np.float32),
        _format("float16", np.float16),
        _format("bfloat16", ml_dtypes.bfloat16),
        _format("float8_e4m3", ml_dtypes.float8_e4m3),
        _format("float8_e4m3fn", ml_dtypes.float8_e4m3fn),
        _format("float8_e5m2", ml_dtypes.float8_e5m2),
        _format("float8_e8m0fnu", ml_dtypes.float8_e8m0fnu),
        _format("float8_e4m3fn_x4", np.uint32, "packed", "float8_e4m3fn"),
        _format("float8_e5m2_x4", np.uint32, "packed", "float8_e5m2"),
        _format("float4_e2m1fn_x4", np.uint16, "packed", "float4_e2m1fn"),
    )
}
WIDE = ("float32", "tfloat32")
HALF = ("bfloat16", "float16")
FP8 = ("float8_e4m3", "float8_e5m2", "float8_e4m3fn")
UNSIGNED = ("uint8", "uint16", "uint32")
_BY_NUMPY = {
    found.stored: name
    for name, found in FORMATS.items()
    if name not in ("bool_", "tfloat32") and found.kind != "packed"
}
_BY_NUMPY[np.dtype(np.bool_)] = "bool_"


def format_of(name: object) -> Format:
    """The format of a name.

    Raises:
        Rejected: NKI has none of that name.
    """
    found = FORMATS.get(name) if isinstance(name, str) else None
    if found is None:
        raise Rejected(f"dtype: found {name!r}, expected one of {', '.join(FORMATS)} (shared, supported data types)")
    return found


def name_of(stored: np.dtype[Any]) -> str:
    """The name of NumPy's dtype.

    Raises:
        Rejected: NKI has no such format, as of float64 and int64.
    """
    if stored not in _BY_NUMPY:
        raise Rejected(f"dtype: found {stored}, which NKI has not (shared, supported data types)")
    return _BY_NUMPY[stored]


def widened(values: Array, name: str) -> Array:
    """Values of a format in float32, in which engines compute."""
    if FORMATS[name].kind == "packed":
        raise Rejected(f"dtype: found {name}, which only nc_matmul_mx computes with (isa nc_matmul_mx)")
    return values.astype(np.float32)


def narrowed(values: Array, name: str) -> Array:
    """Float32 or integer values as a format stores them."""
    form = FORMATS[name]
    if name == "tfloat32":
        return tf32(values.astype(np.float32))
    if form.kind == "int" and values.dtype.kind == "f":
        limits = np.iinfo(form.stored)
        whole: Array = np.clip(np.rint(values.astype(np.float64)), limits.min, limits.max).astype(form.stored)
        return whole
    if form.kind == "float" and values.dtype.kind in "iu":
        values = values.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        stored: Array = values.astype(form.stored)
    return stored


def tf32(values: Array) -> Array:
    """Float32 rounded to ten bits behind the point, ties to even."""
    bits = values.view(np.uint32)
    kept = (bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))) & np.uint32(0xFFFFE000)
    rounded: Array = np.where(np.isfinite(values), kept.view(np.float32), values)
    return rounded


def unpacked(values: Array, name: str) -> Array:
    """Elements of a packed format in float32, with a last axis of four."""
    element = FORMATS[name].packs
    if element == "float4_e2m1fn":
        nibbles = np.stack([(values >> np.uint16(4 * i)) & np.uint16(15) for i in range(4)], axis=-1).astype(np.uint8)
        return np.asarray(nibbles.view(ml_dtypes.float4_e2m1fn).astype(np.float32))
    raw = np.ascontiguousarray(values).view(np.uint8).reshape(*values.shape, 4)
    return np.asarray(raw.view(FORMATS[element].stored).astype(np.float32))
