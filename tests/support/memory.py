"""Memory that one call allocates, as measured, or by the shapes of tensors that are never filled."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(run: Callable[[int], object]) -> int:
    """Bytes at the peak of one call beyond what there was before, by torch's own record of allocations.

    Without oneDNN, whose scratch memory depends on the processor.
    """
    with torch.backends.mkldnn.flags(enabled=False), profile(
        activities=[ProfilerActivity.CPU], profile_memory=True
    ) as profiled:  # fmt: skip
        run(0)
    held = peak = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


class _Live(TorchDispatchMode):
    """Adds up the storages that operations make, for as long as they are there."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def known(self, *tensors: torch.Tensor) -> None:
        """What was there before counts for nothing."""
        self._known.update(tensor.untyped_storage() for tensor in tensors)

    def _freed(self, size: int) -> None:
        self.held -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage()) not in self._known:
                self.known(tensor)
                self.held += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
        self.peak = max(self.peak, self.held)
        return found


def peak_by_shape(function: Callable[..., torch.Tensor], operands: list[tuple[tuple[int, ...], torch.dtype]]) -> int:
    """Bytes at the peak of a forward and backward of a loss beyond its operands, of any size, without computing it.

    Sees what operations give, not what they need inside.
    """
    with FakeTensorMode():
        made = [torch.empty(shape, dtype=dtype, requires_grad=dtype.is_floating_point) for shape, dtype in operands]
        incoming, live = torch.empty(()), _Live()
        live.known(*made, incoming)
        with live:
            loss = function(*made)
            gradients = torch.autograd.grad(loss, [t for t in made if t.requires_grad], incoming)
        del loss, gradients
    return live.peak
