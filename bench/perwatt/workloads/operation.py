"""Sessions for workloads that are one differentiable function of tensors: products, attention, norms, losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from perwatt.spec.data import Recipe, Source
from perwatt.workloads.base import Accuracy, Session
from perwatt.workloads.captured import Playback
from perwatt_kernels.dtypes import as_bytes, dtype

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from perwatt.backends.base import Backend, Device
    from perwatt.spec.case import Case

Verify = Callable[["list[Tensor]", "Tensor | None", "Tensor", "Sequence[Tensor] | None"], Accuracy]
COLD_CACHES, COLD_BYTES = 3, 512 * 2**20  # cold operands exceed three last-level caches, or half a GiB


def slots_for(cache: str, set_bytes: float, device: Device) -> int:
    """Operand sets that a timed body rotates through (docs/method.md, Time).

    Args:
        cache: ``hot`` (one set), ``partial`` (one last-level cache full), ``cold`` (three of them, or 512 MiB).
        set_bytes: bytes of the inputs and outputs of one iteration.
        device: whose last-level cache counts.
    """
    if cache == "hot":
        return 1
    assert device.cache_bytes is not None, "the device is not started"
    reach = {"partial": device.cache_bytes, "cold": min(COLD_CACHES * device.cache_bytes, COLD_BYTES)}.get(cache, 0)
    return max(1, math.ceil(reach / max(set_bytes, 1.0)))


class Tensors:
    """The operands of one operation: how they are made, and how each slot holds a copy of its own.

    Args:
        recipes: one for each operand, in the order the function takes them.
        place: puts an array on the device in the operand's format and layout.
    """

    def __init__(self, recipes: Sequence[Recipe], place: Callable[[Recipe, Tensor], Tensor]) -> None:
        self.recipes, self._place = recipes, place

    def make(self, source: Source) -> list[Tensor]:
        """Fresh operands from a source."""
        return list(self.one_by_one(source))

    def one_by_one(self, source: Source) -> Iterator[Tensor]:
        """As :meth:`make`, for memory that has no room for all of them."""
        import torch

        for recipe in self.recipes:
            yield self._place(recipe, torch.from_numpy(source.array(recipe)))


class OperationSession(Session):
    """One function of tensors in any pass.

    Args:
        case: whose pass, gradients and cache mode apply.
        function: what is measured; takes the operands, gives one tensor.
        operands: how the operands are made.
        cotangent: how the gradient that flows in is made, of the shape and layout of the result.
        verify: gate; takes operands, the gradient that flowed in, the result, and the gradients of the operands
            (None where the pass gives none).
        set_bytes: bytes of inputs and outputs of one iteration, by which slots are counted.
        captured: play the timed body back as a graph of the device.
    """

    _body: Callable[[int], Any]

    def __init__(
        self, *, case: Case, backend: Backend, seed: int, function: Callable[..., Tensor], operands: Tensors,
        cotangent: Tensors, verify: Verify,
        set_bytes: float, captured: bool = False,
    ) -> None:  # fmt: skip
        self._case, self._backend, self._seed = case, backend, seed
        self._function, self._verify = function, verify
        self._recipes, self._cotangent = operands, cotangent
        self._held = self.slots = slots_for(case.cache, set_bytes, backend.describe())
        source = Source(seed)
        first = operands.make(source)
        self._sets = [self._leaves(first)] + [self._leaves(first, copy=True) for _ in range(self._held - 1)]
        incoming = cotangent.make(source) if case.grad else []
        self._incoming = [incoming] + [[t.clone() for t in incoming] for _ in range(self._held - 1)]
        self.input_digest = source.digest()
        self._pending: list[Tensor | None] = [None] * self._held
        self._choose_bodies()
        if captured:
            self._body, self.slots = Playback(backend, self._body, self._held, self._recorded), 1

    def _recorded(self, calls: int) -> None:
        self.each = calls

    def _leaves(self, operands: list[Tensor], copy: bool = False) -> list[Tensor]:
        needs = self._case.grad
        return [(_copy(t.detach()) if copy else t).requires_grad_(needs and t.is_floating_point()) for t in operands]

    def _choose_bodies(self) -> None:
        method = self._case.measure.bwd_method
        direct = self._backend.brackets if method == "auto" else method == "direct"
        backward_alone = self._case.pass_ == "bwd"
        self.bracketed = backward_alone and direct
        if backward_alone and not direct:
            self.part = self._forward
        self._body = self._forward if self._case.pass_ == "fwd" else self._backward if self.bracketed else self._both

    def run(self, slot: int) -> object:
        """One iteration of the pass."""
        return self._body(slot)

    def before(self, slot: int) -> None:
        """The forwards whose backwards are timed, a turn ahead: by its backward a slot has left the cache again."""
        for ahead in range(self._held):
            other = (slot + ahead) % self._held
            if self._pending[other] is None:
                self._pending[other] = self._forward(other)

    def _forward(self, slot: int) -> Tensor:
        return self._function(*self._sets[slot])

    def _backward(self, slot: int) -> Sequence[Tensor]:
        import torch

        result, self._pending[slot] = self._pending[slot], None
        assert result is not None, "before() was not called"
        return torch.autograd.grad(result, self._differentiable(slot), self._incoming[slot])

    def _both(self, slot: int) -> tuple[Tensor, Sequence[Tensor]]:
        import torch

        result = self._forward(slot)
        return result, torch.autograd.grad(result, self._differentiable(slot), self._incoming[slot])

    def _differentiable(self, slot: int) -> list[Tensor]:
        return [t for t in self._sets[slot] if t.requires_grad]

    def check(self, generation: int) -> Accuracy:
        """The timed body on fresh inputs in the timed buffers, after an earlier result was poisoned with NaN."""
        import torch

        self._poison()
        source = Source(self._seed + generation * 1_000_003)
        with torch.no_grad():
            for old, new in zip(self._sets[0], self._recipes.one_by_one(source), strict=True):
                as_bytes(old).copy_(as_bytes(new))
            for old, new in zip(self._incoming[0], self._cotangent.one_by_one(source), strict=False):
                old.copy_(new)
                del new
        before = _bits(self._sets[0])
        result, gradients = self._once()
        self._backend.synchronize()
        if _bits(self._sets[0]) != before:
            return Accuracy(rel_err=math.nan, bound=0.0, detail="the operands are not what they were before the call")
        incoming = self._incoming[0][0] if self._incoming[0] else None
        return self._verify([t.detach() for t in self._sets[0]], incoming, result, gradients)

    def _once(self) -> tuple[Tensor, Sequence[Tensor] | None]:
        """Result and gradients of slot 0, through the bodies that are timed.

        A forward that saves for backward is followed by a backward: what it saved is a part of its result.
        """
        if self.bracketed:
            self._pending[0] = None  # a forward of earlier operands may be waiting
            self.before(0)
            result = self._pending[0]
            assert result is not None
            return result, self._backward(0)
        if not self._case.grad:
            return self._body(0), None
        if self._case.pass_ == "fwd":
            return self._kept()
        found: tuple[Tensor, Sequence[Tensor]] = self._body(0)
        return found

    def _kept(self) -> tuple[Tensor, Sequence[Tensor]]:
        """A forward, and a backward that leaves what the forward saved where the gate can look at it."""
        import torch

        result = self._forward(0)
        return result, torch.autograd.grad(result, self._differentiable(0), self._incoming[0], retain_graph=True)

    def _poison(self) -> None:
        """Fill an earlier result with NaN, so that an impl that returns a buffer it did not write is found out."""
        import torch

        result, gradients = self._once()
        with torch.no_grad():
            for tensor in (result, *(gradients or ())):
                tensor.detach().fill_(float("nan"))

    def path(self) -> str:
        """Operations that one untimed iteration really dispatched."""
        return self._backend.observed(self._once)

    def close(self) -> None:
        """Let go of the operands."""
        self._sets, self._incoming, self._pending = [], [], []
        vars(self).pop("_body", None)  # a graph keeps the memory of all that it touches


def place(format_name: str, device: torch.device) -> Callable[[Recipe, Tensor], Tensor]:
    """A ``place`` that casts to one format and keeps the recipe's own layout."""
    return lambda recipe, tensor: tensor.to(device=device, dtype=dtype(format_name))


def _copy(tensor: Tensor) -> Tensor:
    return as_bytes(tensor).clone().view(tensor.dtype)


def _bits(tensors: Sequence[Tensor]) -> list[int]:
    """A sum over the bits of each tensor, by which a changed one is told: it would be judged as if it had come so."""
    import torch

    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return [int(t.detach().view(integers[t.element_size()]).sum(dtype=torch.int64)) for t in tensors]
