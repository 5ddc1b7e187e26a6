"""Operands of attention in Gluon: descriptors of heads, which the tensor memory accelerator reads and writes by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from perwatt_kernels.attention.triton_launch import describable, descriptor_strides
from perwatt_kernels.registry import Refusal

NARROWEST = 64  # a row of so many 16-bit elements fills the widest pattern that shared memory is swizzled in
FORMATS = {torch.bfloat16: gl.bfloat16, torch.float16: gl.float16}


def width(dim: int) -> int:
    """Of a head in shared memory: the next power of two."""
    return max(NARROWEST, 1 << (dim - 1).bit_length())


def source(tensor: Tensor, rows: int) -> Any:
    """Descriptor of [batch, heads, length, head_dim], so many rows of a head at a time; zero beyond its ends."""
    block = [1, 1, rows, width(tensor.shape[3])]
    layout = gl.NVMMASharedLayout.get_default_for(block, FORMATS[tensor.dtype])
    return TensorDescriptor(tensor, list(tensor.shape), descriptor_strides(tensor), block, layout)


def refuse_others(**named: Tensor) -> None:
    """Refuse what no descriptor describes.

    Raises:
        Refusal: one lies otherwise; it says which, and how.
    """
    for name, tensor in named.items():
        if not describable(tensor):
            raise Refusal(
                f"{name}: found strides {list(tensor.stride())} at {tensor.data_ptr() % 16} bytes beyond a multiple of "
                "16, expected a contiguous head and all else in multiples of 16 bytes; triton takes any"
            )
