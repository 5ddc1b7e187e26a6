"""Copies by the tensor memory accelerator: tiles of global memory to shared memory and back, some time later.

Beyond the ends of the tensor nothing is written, and zeros (or, where the descriptor says so, not-a-numbers) are read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.experimental.gluon import language as gl

from fakes.gluon.barriers import Barrier
from fakes.gluon.errors import Hazard, Refused, where
from fakes.gluon.formats import TRITON, Block, Shape, loaded, rounded, width
from fakes.gluon.layouts import SIXTEEN
from fakes.gluon.machine import program
from fakes.gluon.memory import View
from fakes.gluon.schedule import Event
from fakes.gluon.session import since_3_9
from fakes.gluon.tensors import Value, truth, value

MOST_BOX = 256  # elements of an extent that one instruction copies: more are several, which the compiler makes


PLACED = 128  # bytes: what a tile in shared memory begins at a multiple of


class Descriptor:
    """A tensor in global memory and the tile that is copied, as a kernel sees it."""

    def __init__(self, base: Tensor, shape: Any, strides: Any, block_shape: Any, layout: Any, padding: str) -> None:
        self.base, self.padding, self.layout = base, padding, layout
        self.extents, self.steps = [int(size) for size in shape], [int(step) for step in strides]
        self.block_shape = Shape(block_shape)
        self.dtype = TRITON[base.dtype]
        _verify(self)

    @property
    def shape(self) -> tuple[Value, ...]:
        return tuple(value(size) for size in self.extents)

    @property
    def strides(self) -> tuple[Value, ...]:
        return tuple(value(step).to(tl.int64) for step in self.steps)

    @property
    def block_type(self) -> Block:
        return Block(self.dtype, self.block_shape)

    @property
    def bytes(self) -> int:
        return self.block_type.nbytes

    @property
    def nbytes_per_cta(self) -> int:
        since_3_9("nbytes_per_cta")
        return self.bytes

    def part(self, at: list[int]) -> tuple[Tensor, tuple[slice, ...]]:
        """The elements of a tile that are in the tensor, and where in the tile they are."""
        whole = self.base.as_strided(self.extents, self.steps)
        low = [max(0, -start) for start in at]
        high = [min(size, end - start) for start, size, end in zip(at, self.block_shape, self.extents, strict=True)]
        high = [max(first, last) for first, last in zip(low, high, strict=True)]
        inside = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
        there = tuple(
            slice(min(start + one.start, end), min(start + one.stop, end))
            for start, one, end in zip(at, inside, self.extents, strict=True)
        )
        return whole[there], inside


def _verify(desc: Descriptor) -> None:
    size = width(desc.dtype)
    rank = len(desc.extents)
    if not 1 <= rank <= 5 or len(desc.steps) != rank or len(desc.block_shape) != rank:
        raise Refused(f"a descriptor has 1 to 5 extents, strides and block extents, found {rank}")
    if desc.base.data_ptr() % SIXTEEN:
        raise Refused(f"the tensor of a descriptor begins at a multiple of {SIXTEEN} bytes")
    if desc.steps[-1] != 1 or any(step * size % SIXTEEN for step in desc.steps[:-1]):
        raise Refused(f"strides of a descriptor are multiples of {SIXTEEN} bytes, the last one is 1: {desc.steps}")
    if any(step <= 0 for step in desc.steps) or any(extent <= 0 for extent in desc.extents):
        raise Refused(f"extents and strides of a descriptor are positive: {desc.extents}, {desc.steps}")
    reach = sum((extent - 1) * step for extent, step in zip(desc.extents, desc.steps, strict=True)) + 1
    if desc.base.storage_offset() + reach > desc.base.untyped_storage().nbytes() // size:
        raise Refused(f"a descriptor of {desc.extents} by {desc.steps} reaches beyond its tensor")
    layout = desc.layout
    if not isinstance(layout, gl.NVMMASharedLayout) or layout.transposed or layout.rank != rank:
        raise Refused(f"the layout of a descriptor is an NVMMASharedLayout of its rank, not transposed: {layout}")
    if layout.element_bitwidth != size * 8:
        raise Refused(f"a layout for {layout.element_bitwidth} bits, of elements of {desc.dtype}")
    inner = desc.block_shape[-1] * size
    if inner < SIXTEEN or inner < layout.swizzle_byte_width:
        raise Refused(f"rows of {inner} bytes are less than {SIXTEEN} or the swizzle of {layout.swizzle_byte_width}")
    if not layout.swizzle_byte_width and desc.block_shape[-1] > MOST_BOX:
        raise Refused(f"rows without swizzle have {MOST_BOX} elements at most, found {desc.block_shape[-1]}")
    if any(extent & (extent - 1) for extent in desc.block_shape):
        raise Refused(f"blocks have powers of two as their shape, found {desc.block_shape}")


class Store:
    """A copy out of shared memory: it reads at some time, and writes at a later one."""

    def __init__(self, desc: Descriptor, at: list[int], view: View, how: Callable[[Tensor, Tensor], Tensor] | None):
        self.desc, self.at, self.view, self.how = desc, at, view, how
        self.about = f"store of {program().partition.name}, issued at {where()}"
        self.taken: Tensor | None = None

    def views(self) -> list[View]:
        return [self.view]

    def read(self) -> None:
        if self.taken is None:
            self.taken = loaded(self.view.data.clone(), self.view.dtype)

    def write(self) -> None:
        assert self.taken is not None
        target, inside = self.desc.part(self.at)
        made = self.taken[inside]
        if self.how is not None:
            made = rounded(self.how(loaded(target, self.desc.dtype), made), self.desc.dtype)
        target.copy_(made.to(target.dtype))


def load(desc: Any, coord: Any, barrier: Any, result: Any, pred: Any = True) -> None:
    """A tile into shared memory; its bytes are told to the barrier."""
    state = program()
    state.schedule.turn()
    at = _coordinates(desc, coord)
    _match(desc, result)
    if not truth(pred):
        return
    signal: Barrier = state.barriers.find(barrier, "a copy signals")
    phase = signal.phase
    about = f"load of {program().partition.name}, issued at {where()}"
    result.give("is copied into")
    result.fenced("shared memory is copied into")
    clock = list(state.partition.clock)
    result.note_write(signal.actor, phase + 1, f"the {about}")

    def happen() -> None:
        source, inside = desc.part(at)
        blank = float("nan") if desc.padding == "nan" else 0
        made = torch.full(desc.block_shape, blank, dtype=torch.float32).to(desc.base.dtype)
        made[inside] = source
        result.data.copy_(made)
        signal.land(desc.bytes, phase, about, clock)

    state.schedule.add(Event(about, happen))
    state.schedule.turn()


def store(desc: Any, coord: Any, src: Any, how: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
    """A tile of shared memory into the tensor; a group of its own for :func:`store_wait`."""
    state = program()
    state.schedule.turn()
    at = _coordinates(desc, coord)
    _match(desc, src)
    src.take("is copied out")
    src.fenced("shared memory is copied out")
    one = Store(desc, at, src, how)
    src.busy(1)
    state.partition.stores.append(one)

    def happen() -> None:
        one.read()
        state.schedule.add(Event(one.about, one.write))

    state.schedule.add(Event(one.about, happen))
    state.schedule.turn()


def store_wait(pendings: Any) -> None:
    """Until all but the latest copies have read shared memory; what they write may come later."""
    if not isinstance(pendings, int) or pendings < 0:
        raise Refused(f"store_wait takes a constant, found {pendings}")
    state = program()
    state.schedule.turn()
    stores = state.partition.stores
    while len(stores) > pendings:
        one = stores.pop(0)
        one.read()
        one.view.busy(-1)


def _coordinates(desc: Any, coord: Any) -> list[int]:
    if not isinstance(desc, Descriptor):
        raise Refused(f"expected a tensor descriptor, found {type(desc).__name__}")
    if len(coord) != len(desc.block_shape):
        raise Refused(f"{len(coord)} coordinates for a descriptor of {len(desc.block_shape)} extents")
    for one in coord:
        if isinstance(one, Value) and one.dtype == tl.int64:
            raise Refused("coordinates of a copy are int32, found int64")
    at = [int(one) for one in coord]
    if at[-1] * width(desc.dtype) % SIXTEEN:
        raise Hazard(f"the innermost coordinate is a multiple of {SIXTEEN} bytes, found {at[-1]} of {desc.dtype}")
    return at


def _match(desc: Descriptor, view: Any) -> None:
    if not isinstance(view, View):
        raise Refused(f"expected shared memory, found {type(view).__name__}")
    if view.start % PLACED:
        raise Hazard(f"a copy from or to shared memory begins at a multiple of {PLACED} bytes: {view}")
    if view.shape != desc.block_shape or view.dtype != desc.dtype or view.layout != desc.layout:
        raise Refused(
            f"a descriptor of {desc.dtype}{desc.block_shape} {desc.layout} with shared memory of "
            f"{view.dtype}{view.shape} {view.layout}"
        )
