"""Torch dtypes by the format names of precision policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_NAMES = {
    "fp64": "float64",
    "fp32": "float32",
    "tf32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "e4m3fn": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
}


def dtype(format_name: str) -> torch.dtype:
    """The dtype that stores a format; ``tf32`` is stored as float32.

    Raises:
        ValueError: torch has no dtype for it.
    """
    import torch

    name = _NAMES.get(format_name)
    if name is None or not hasattr(torch, name):
        raise ValueError(f"torch {torch.__version__} has no dtype for format {format_name!r}")
    found: torch.dtype = getattr(torch, name)
    return found
