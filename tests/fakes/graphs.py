"""A CPU that captures calls as a CUDA graph does: operands are read, and results written, where they were at capture.

The call is not called again. Every operation that it sent to the device is done again on the same tensors, and what it
gave is written into what it gave at capture. Host code, closures and names bound anew since then have no effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from perwatt.backends.cpu import Cpu

WARMUPS = 3  # torch asks for a few iterations on a side stream before it captures
Step = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], list[Any]]


class Tape(TorchDispatchMode):
    """Writes down operations with their tensors.

    Attributes:
        steps: function, operands, and what it gave; None for what has no memory of its own, such as views.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        read = {storage(t) for t in tensors((args, kwargs))}
        own = [t if isinstance(t, torch.Tensor) and storage(t) not in read else None for t in tree_leaves(found)]
        self.steps.append((func, args, kwargs or {}, own))
        return found

    def play(self) -> None:
        """Do them again on the same tensors."""
        with torch.no_grad():
            for func, args, kwargs, found in self.steps:
                for old, new in zip(found, tree_leaves(func(*args, **kwargs)), strict=True):
                    if old is not None:
                        old.copy_(new)


def tensors(values: Any) -> list[torch.Tensor]:
    """All tensors in nested values."""
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def storage(tensor: torch.Tensor) -> int:
    """Where a tensor's memory begins."""
    return tensor.untyped_storage().data_ptr()


class Graphs(Cpu):
    """Answers to the name of the CPU, so that every CPU kernel works on it."""

    def __init__(self) -> None:
        self.captures = 0
        self.plays = 0

    def uncapturable(self) -> str | None:
        return None

    def untunable(self) -> str | None:
        return None

    def compile(self, function: Callable[..., Any], *, autotune: bool = False) -> Callable[..., Any]:
        return function

    def capture(self, call: Callable[[], Any]) -> Callable[[], Any]:
        self.captures += 1
        for _ in range(WARMUPS):
            call()
        tape = Tape()
        with tape:
            found = call()

        def play() -> Any:
            self.plays += 1
            self.replay(tape)
            return found

        return play

    def replay(self, tape: Tape) -> None:
        """Faults are planted here."""
        tape.play()
