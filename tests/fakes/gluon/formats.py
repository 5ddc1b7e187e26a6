"""Numbers as registers hold them: floats in float32 rounded to their format, integers in int64 within their width."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import torch
import triton.language as tl
from torch import Tensor

TORCH = {
    "fp64": torch.float64, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16,
    "fp8e4nv": torch.float8_e4m3fn, "fp8e5": torch.float8_e5m2, "int1": torch.bool, "int8": torch.int8,
    "int16": torch.int16, "int32": torch.int32, "int64": torch.int64, "uint8": torch.uint8, "uint16": torch.uint16,
    "uint32": torch.uint32, "uint64": torch.uint64,
}  # fmt: skip
TRITON = {dtype: tl.dtype(name) for name, dtype in TORCH.items()}
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Shape(list[int]):
    """Of a tensor: in kernels lists and tuples are one type, and can be put together."""

    def __add__(self, other: Iterable[int]) -> Shape:  # type: ignore[override]
        return Shape([*self, *other])

    def __radd__(self, other: Iterable[int]) -> Shape:
        return Shape([*other, *self])


@dataclass(frozen=True)
class Block:
    """The type of a tile that a descriptor copies."""

    element_ty: tl.dtype
    shape: Shape

    @property
    def scalar(self) -> tl.dtype:
        return self.element_ty

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * width(self.element_ty)


def stored(dtype: tl.dtype) -> torch.dtype:
    """Of memory."""
    return TORCH[dtype.name]


def width(dtype: tl.dtype) -> int:
    """In bytes, of memory."""
    return max(1, int(dtype.primitive_bitwidth) // 8)


def carried(dtype: tl.dtype) -> torch.dtype:
    """Of registers, as they are emulated."""
    if dtype.is_ptr():
        return torch.int64
    if dtype.is_floating():
        return torch.float64 if dtype.is_fp64() else torch.float32
    return torch.bool if dtype.is_int1() else torch.int64


def rounded(data: Tensor, dtype: tl.dtype) -> Tensor:
    """Numbers in a format: to nearest even; 8-bit floats saturate, as `cvt.rn.satfinite` does; integers wrap."""
    if dtype.is_floating():
        if dtype.is_fp8():
            data = data.to(torch.float32)
            most = torch.finfo(stored(dtype)).max
            data = torch.where(data.isnan(), data, data.clamp(-most, most))
        return data.to(stored(dtype)).to(carried(dtype))
    if dtype.is_int1():
        return data != 0
    if dtype.is_ptr():
        return data.to(torch.int64)
    data = (data.trunc() if data.is_floating_point() else data).to(torch.int64)
    bits = int(dtype.primitive_bitwidth)
    if bits == 64:
        return data
    data = data & ((1 << bits) - 1)
    return data if dtype.is_int_unsigned() else torch.where(data >= 1 << (bits - 1), data - (1 << bits), data)


def loaded(data: Tensor, dtype: tl.dtype) -> Tensor:
    """What memory has, as registers hold it."""
    return data.to(carried(dtype))
