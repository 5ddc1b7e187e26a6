"""Shared memory of a program, poisoned, and who may touch which byte of it.

Every byte is marked with asynchronous reads that were not waited for, with writes by registers that no fence has shown
to the asynchronous proxy (copies and products) yet, and with the times of :mod:`fakes.gluon.clocks`. Bytes are those of
the logical tensor: a view by another layout of the same bytes does not see them swizzled.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language._core import shared_memory_descriptor_type
from triton.runtime.errors import OutOfResources

from fakes.gluon import layouts
from fakes.gluon.clocks import Times, unknown_read, unknown_write
from fakes.gluon.errors import Hazard, Refused, where
from fakes.gluon.formats import Shape, loaded, stored, width
from fakes.gluon.machine import program
from fakes.gluon.session import since_3_9

CAPACITY = 227 * 1024  # bytes a program can have on Hopper
POISON = 0xFF  # of every byte: not a number in each format of floats
ALIGNED = {True: 1024, False: 16}  # bytes, of what is swizzled and what is not


class Memory:
    """What a program has allocated; ``deeds`` tells of writes, by actor and time."""

    def __init__(self) -> None:
        self.used = 0
        self.allocations: list[Allocation] = []
        self.deeds: dict[tuple[int, int], str] = {}

    def allocate(self, dtype: tl.dtype, shape: list[int], layout: Any) -> View:
        layouts.verify_shared(layout, shape, dtype)
        size = prod(shape) * width(dtype)
        aligned = ALIGNED[isinstance(layout, gl.NVMMASharedLayout)]
        self.used = -(-self.used // aligned) * aligned + size
        if self.used > CAPACITY:
            raise OutOfResources(self.used, CAPACITY, "shared memory")
        allocation = Allocation(len(self.allocations), size)
        self.allocations.append(allocation)
        return View(allocation, allocation.bytes.view(stored(dtype)).view(shape), dtype, layout)

    def fence(self, partition: int) -> None:
        """What a partition has written is seen by the asynchronous proxy from now on."""
        for allocation in self.allocations:
            allocation.unfenced[allocation.unfenced == partition + 1] = 0


class Allocation:
    """Bytes and the marks of each: reads under way, the partition (plus 1) of an unfenced write, and times."""

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.bytes = torch.full((size,), POISON, dtype=torch.uint8)
        self.reads = torch.zeros(size, dtype=torch.int16)
        self.unfenced = torch.zeros(size, dtype=torch.uint8)
        self.times = Times(size)


class View:
    """A shared memory descriptor: part of an allocation, by a shape and a layout."""

    def __init__(self, allocation: Allocation, data: Tensor, dtype: tl.dtype, layout: Any) -> None:
        self.allocation, self.data, self.dtype, self.layout = allocation, data, dtype, layout

    @property
    def shape(self) -> Shape:
        return Shape(self.data.shape)

    @property
    def rank(self) -> int:
        return self.data.dim()

    @property
    def numel(self) -> int:
        return self.data.numel()

    @property
    def type(self) -> Any:
        return shared_memory_descriptor_type(self.dtype, self.shape, self.layout, self.shape)

    @property
    def bytes(self) -> int:
        return self.numel * width(self.dtype)

    @property
    def nbytes_per_cta(self) -> int:
        since_3_9("nbytes_per_cta")
        return self.bytes

    @property
    def start(self) -> int:
        """In bytes, of its allocation."""
        return int(self.data.storage_offset()) * width(self.dtype)

    def __str__(self) -> str:
        return f"allocation {self.allocation.number} from byte {self.start}, {self.dtype}{self.shape}"

    # Views of views.

    def index(self, index: Any) -> View:
        if getattr(index, "dtype", tl.int32) != tl.int32:
            raise Refused(f"index takes an int32, found {index.dtype}")
        at = int(index)
        if not 0 <= at < self.data.shape[0]:
            raise Hazard(f"index {at} of {self} is out of bounds")
        return View(self.allocation, self.data[at], self.dtype, self.layout)

    def slice(self, start: int, length: int, dim: int = 0) -> View:
        if not all(isinstance(number, int) for number in (start, length, dim)):
            raise Refused("slice takes constants")
        if start < 0 or start + length > self.data.shape[dim]:
            raise Refused(f"slice from {start} by {length} of {self} is out of bounds")
        if isinstance(self.layout, gl.NVMMASharedLayout) and self.layout.swizzle_byte_width:
            inner = self.rank - (2 if self.layout.transposed else 1)
            whole = self.layout.swizzle_byte_width // width(self.dtype) if dim == inner else 8
            if dim >= self.rank - 2 and (start % whole or length % whole):
                raise Refused(f"slice from {start} by {length} cuts the swizzle of {self}, which is {whole} there")
        return View(self.allocation, self.data.narrow(dim, start, length), self.dtype, self.layout)

    def permute(self, order: Any) -> View:
        order = tuple(order)
        layout = layouts.of_memory("permute", self.dtype, tuple(self.shape), self.layout, order)
        return View(self.allocation, self.data.permute(order), self.dtype, layout)

    def reshape(self, shape: Any) -> View:
        shape = tuple(shape)
        if prod(shape) != self.numel:
            raise Refused(f"reshape of {self.shape} to {list(shape)}")
        layout = layouts.of_memory("reshape", self.dtype, tuple(self.shape), self.layout, shape)
        return View(self.allocation, self.data.view(shape), self.dtype, layout)

    def _reinterpret(self, dtype: Any, shape: Any, layout: Any) -> View:
        shape = list(shape)
        layouts.verify_shared(layout, shape, dtype)
        if not self.data.is_contiguous():
            raise Refused(f"_reinterpret of a permuted or sliced view: {self}")
        if prod(shape) * width(dtype) > self.bytes:
            raise Refused(f"_reinterpret of {self} as more than it is: {dtype}{shape}")
        flat = self.data.view(-1).view(torch.uint8)[: prod(shape) * width(dtype)]
        return View(self.allocation, flat.view(stored(dtype)).view(shape), dtype, layout)

    def _keep_alive(self) -> None:
        """Only of the allocator's interest."""

    # By registers: the generic proxy.

    def load(self, layout: Any) -> Any:
        from fakes.gluon.tensors import Value

        program().schedule.turn()
        self.take("is read")
        if not self.marks(self.allocation.times.written).all():
            raise Hazard(f"shared memory is read that was never written: {self}")
        self.note_read()
        return Value(loaded(self.data.clone(), self.dtype), self.dtype, layout)

    def store(self, value: Any) -> None:
        from fakes.gluon.tensors import Value

        if not isinstance(value, Value):
            raise Refused(f"expected a tensor to store, found {type(value).__name__}")
        if value.shape != self.shape or value.dtype != self.dtype:
            raise Refused(f"a store of {value.dtype}{value.shape} into {self.dtype}{self.shape}")
        data = value.read()
        program().schedule.turn()
        self.give("is written")
        self.data.copy_(data.to(self.data.dtype))
        partition = program().partition
        self.marks(self.allocation.unfenced).fill_(partition.number + 1)
        self.note_write(partition.number, partition.clock[partition.number], f"the store at {where()}")

    # Who was here, and who may be.

    def marks(self, of: Tensor) -> Tensor:
        """Of the bytes of this view: its shape, then the bytes of an element; before them what ``of`` has first."""
        size = width(self.dtype)
        ahead, steps = list(of.shape[:-1]), list(of.stride()[:-1])
        strides = [stride * size for stride in self.data.stride()]
        return of.as_strided((*ahead, *self.shape, size), (*steps, *strides, 1), self.start)

    def take(self, what: str) -> None:
        """Reading is in order: after the write of what is there."""
        state = program()
        times = self.allocation.times
        found = unknown_write(self.marks(times.writer), self.marks(times.written), state.partition.clock)
        if found is not None:
            deed = state.memory.deeds.get(found, "a write")
            raise Hazard(f"shared memory {what} by {state.partition.name}, which nothing orders after {deed}: {self}")

    def give(self, what: str) -> None:
        """Writing is in order: after the write of what is there, and after all reads of it."""
        self.take(what)
        state = program()
        if self.marks(self.allocation.reads).any():
            using = [one for part in state.schedule.partitions for one in (*part.queue, *part.stores)]
            there = [one.about for one in using if any(view.allocation is self.allocation for view in one.views())]
            raise Hazard(f"shared memory {what} while it is read and not waited for: {self}: {'; '.join(there)}")
        found = unknown_read(self.marks(self.allocation.times.read), state.partition.clock)
        if found is not None:
            reader = state.schedule.name(found)
            raise Hazard(f"shared memory {what}, which nothing orders after the last read by {reader}: {self}")

    def note_read(self) -> None:
        """By the partition whose turn it is, now."""
        partition = program().partition
        self.marks(self.allocation.times.read)[partition.number] = partition.clock[partition.number]

    def note_write(self, actor: int, time: int, deed: str) -> None:
        times = self.allocation.times
        self.marks(times.writer).fill_(actor)
        self.marks(times.written).fill_(time)
        program().memory.deeds[actor, time] = deed

    def fenced(self, what: str) -> None:
        """What registers have written is seen by the asynchronous proxy."""
        if self.marks(self.allocation.unfenced).any():
            raise Hazard(f"{what} without fence_async_shared after the store: {self}")

    def busy(self, one: int) -> None:
        """One more that reads asynchronously, or, with -1, one less, whose reading is over by now."""
        self.marks(self.allocation.reads).add_(one)
        if one < 0:
            self.note_read()
