"""What planted kernels in Gluon are made of, inside of `emulated`."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


def names() -> SimpleNamespace:
    """The modules and functions of Gluon, by the names of the version that is emulated; copies by one name."""
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.language.nvidia import hopper
    from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma

    old = not hasattr(tma, "async_load")
    return SimpleNamespace(
        jit=gluon.jit, gl=gl, tma=tma, mbarrier=mbarrier, hopper=hopper, fence=hopper.fence_async_shared,
        mma=hopper.warpgroup_mma, mma_wait=hopper.warpgroup_mma_wait, bar=mbarrier.MBarrierLayout(),
        copy_in=tma.async_copy_global_to_shared if old else tma.async_load,
        copy_out=tma.async_copy_shared_to_global if old else tma.async_store,
        flat=gl.BlockedLayout([1], [32], [4], [0]), tiled=gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0]),
        sums=gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 64, 16]),
    )  # fmt: skip


def shared(block: Sequence[int], dtype: torch.dtype = torch.bfloat16) -> Any:
    """The layout of a tile in shared memory."""
    from triton.experimental.gluon import language as gl

    of = {torch.bfloat16: gl.bfloat16, torch.float32: gl.float32, torch.float8_e4m3fn: gl.float8e4nv}
    return gl.NVMMASharedLayout.get_default_for(list(block), of[dtype])


def tile(tensor: Tensor, block: Sequence[int], padding: str = "zero") -> Any:
    """A descriptor of a tensor."""
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    return TensorDescriptor.from_tensor(tensor, list(block), shared(block, tensor.dtype), padding)


def normal(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).to(dtype)
