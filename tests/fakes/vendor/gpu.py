"""The GPU that the libraries find: where it lies, its capability, its memory."""

from __future__ import annotations

import torch
from torch import Tensor

CAPABILITY = (9, 0)
PLACE = "cpu"  # tensors of this device stand for the GPU's
FULL = False  # no memory is left
NO_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB"


def check(holds: bool, message: str) -> None:
    """As TORCH_CHECK does."""
    if not holds:
        raise RuntimeError(message)


def here(tensor: Tensor) -> bool:
    """Whether a tensor is on the GPU."""
    return tensor.device.type == PLACE


def allocate() -> None:
    """What a library does for its result."""
    if FULL:
        raise torch.OutOfMemoryError(NO_MEMORY)
