"""Torch dtypes by the format names of precision policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_NAMES = {
    "fp64": "float64",
    "fp32": "float32",
    "tf32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "e4m3fn": "float8_e4m3fn",
    "e4m3": "float8_e4m3fn",  # torch has no dtype for IEEE 754's; its finite values have the same codes in this one
    "e5m2": "float8_e5m2",
}


def as_bytes(x: Tensor) -> Tensor:
    """A tensor of 8-bit floats as its bytes, any other as it is.

    Copies are made so: Trainium2's compiler refuses programs that have e4m3fn in them (error NCC_EVRF051).
    """
    import torch

    return x.view(torch.uint8) if x.element_size() == 1 else x


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
