"""Products of a warp group (wgmma): issued, read and summed some time later, and retired in order by a wait."""

from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from triton.experimental.gluon import language as gl

from fakes.gluon.errors import Hazard, Refused, where
from fakes.gluon.formats import carried, loaded, rounded
from fakes.gluon.machine import program
from fakes.gluon.memory import View
from fakes.gluon.schedule import Event, Partition
from fakes.gluon.tensors import Value, truth

GROUP = 4  # warps that multiply together
ROWS = 16  # of the instruction, by warp
MOST_COLUMNS = 256
DEPTH = 256  # bits of the instruction's inner extent


class Product:
    """One product between its issue and the wait that retires it.

    ``done`` says that operands were read and the sums made; ``retired`` that a wait says so. ``passed_on`` is the
    product that goes on with these sums.
    """

    def __init__(self, a: Any, b: View, acc: Any, use_acc: bool, shape: list[int], dtype: tl.dtype, layout: Any):
        self.a, self.b, self.acc, self.use_acc = a, b, acc, use_acc
        self.shape, self.dtype, self.layout = shape, dtype, layout
        self.about = f"product of {program().partition.name}, issued at {where()}"
        self.done = self.retired = self.passed_on = False
        self.result = torch.empty(0)

    def happen(self) -> None:
        """Read the operands, as they are now, and sum."""
        left = loaded(self.a.data, self.a.dtype) if isinstance(self.a, View) else self.a.data
        right = loaded(self.b.data, self.b.dtype)
        made = left.to(carried(self.dtype)) @ right.to(carried(self.dtype))
        if self.use_acc:
            made = made + (self.acc.result if isinstance(self.acc, Product) else self.acc)
        self.result = rounded(made, self.dtype)
        self.done = True

    def views(self) -> list[View]:
        return [one for one in (self.a, self.b) if isinstance(one, View)]


class Accumulator:
    """Sums in flight: only another product or a wait takes them."""

    def __init__(self, product: Product | None, value: Value | None = None) -> None:
        self.product, self.value = product, value


def init(value: Any) -> Accumulator:
    if not isinstance(value, Value):
        raise Refused(f"warpgroup_mma_init takes a tensor, found {type(value).__name__}")
    return Accumulator(None, value)


def warpgroup_mma(
    a: Any, b: Any, acc: Any, *, use_acc: Any = True, precision: Any = None, max_num_imprecise_acc: Any = None,
    is_async: bool = False,
) -> Any:  # fmt: skip
    """The sums of a times b, on top of ``acc`` where ``use_acc``."""
    state = program()
    state.schedule.turn()
    before, value = _sums(acc)
    form: Product | Value = before or value
    _verify(a, b, list(form.shape), form.dtype, form.layout, state.partition)
    use = truth(use_acc)
    source: Any = None
    if before is not None:
        if before.passed_on and not before.retired:
            raise Hazard(f"sums in flight are handed to two products: {before.about}")
        before.passed_on = True
        source = before
    elif use:
        source = value.read()
    if isinstance(a, Value) and a.owner is not None:
        a.read()
    product = Product(a, b, source, use, list(form.shape), form.dtype, form.layout)
    for view in product.views():
        view.take("is multiplied")
        view.fenced("shared memory is multiplied")
        view.busy(1)
    if isinstance(a, Value):
        a.busy.append(product)
    queue = state.partition.queue
    queue.append(product)
    state.schedule.add(Event(product.about, product.happen, lambda: _next(queue) is product))
    if is_async:
        return Accumulator(product)
    retire(state.partition, 0)
    return Value(product.result, form.dtype, form.layout)


def _sums(acc: Any) -> tuple[Product | None, Value]:
    """The product whose sums go on, or a tensor."""
    if isinstance(acc, Accumulator) and acc.product is not None:
        return acc.product, _blank(acc.product)
    value = acc.value if isinstance(acc, Accumulator) else acc
    if not isinstance(value, Value):
        raise Refused(f"the sums are a tensor or those of a product in flight, found {type(acc).__name__}")
    return value.owner, value


def _blank(product: Product) -> Value:
    """The sums of a product, which cannot be read before it is retired."""
    blank = torch.full((1, 1), float("nan"), dtype=carried(product.dtype)).expand(product.shape)
    return Value(blank, product.dtype, product.layout, owner=product)


def warpgroup_mma_wait(num_outstanding: int = 0, deps: Any = None) -> Any:
    """Retire all products but the latest; what is in ``deps`` is handed back as tensors."""
    if deps is None:
        raise Refused("warpgroup_mma_wait deps must be given")
    if not isinstance(num_outstanding, int) or num_outstanding < 0:
        raise Refused(f"num_outstanding is a constant, found {num_outstanding}")
    state = program()
    state.schedule.turn()
    retire(state.partition, num_outstanding)
    made = [_handed_back(one) for one in deps]
    return made[0] if len(made) == 1 else tuple(made)


def retire(partition: Partition, outstanding: int) -> None:
    """In order of issue."""
    events = program().schedule.events
    while len(partition.queue) > outstanding:
        product = partition.queue.pop(0)
        if not product.done:
            product.happen()
            events[:] = [event for event in events if event.happen != product.happen]
        product.retired = True
        for view in product.views():
            view.busy(-1)


def _next(queue: list[Product]) -> Product | None:
    """The oldest product that was not made yet."""
    return next((product for product in queue if not product.done), None)


def _handed_back(one: Any) -> Any:
    if isinstance(one, Value | View):
        return one
    if not isinstance(one, Accumulator):
        raise Refused(f"deps are tensors and sums, found {type(one).__name__}")
    if one.product is None:
        return one.value
    product = one.product
    if product.passed_on and not product.retired:
        raise Hazard(f"sums in flight that another product goes on with are waited for: {product.about}")
    return _blank(product)


def _verify(a: Any, b: Any, shape: list[int], dtype: tl.dtype, layout: Any, partition: Partition) -> None:
    """What the instruction takes."""
    if partition.warps % GROUP:
        raise Refused(f"warpgroup_mma takes whole groups of {GROUP} warps, {partition.name} has {partition.warps}")
    if not isinstance(layout, gl.NVMMADistributedLayout) or list(layout.version) != [3, 0]:
        raise Refused(f"sums of warpgroup_mma have an NVMMADistributedLayout of version [3, 0], found {layout}")
    if not isinstance(b, View) or not isinstance(a, View | Value):
        raise Refused("warpgroup_mma takes b from shared memory, and a from there or from registers")
    if len(shape) != 2 or len(a.shape) != 2 or len(b.shape) != 2 or [a.shape[0], b.shape[1]] != shape:
        raise Refused(f"shapes do not go together: {a.shape} times {b.shape} into {shape}")
    if a.shape[1] != b.shape[0]:
        raise Refused(f"inner extents differ: {a.shape} times {b.shape}")
    bits = a.dtype.primitive_bitwidth
    if a.dtype != b.dtype and not (a.dtype.is_fp8() and b.dtype.is_fp8()):
        raise Refused(f"formats differ: {a.dtype} times {b.dtype}")
    instruction = list(layout.instr_shape)
    if len(instruction) != 3 or instruction[0] != ROWS or instruction[2] != DEPTH // bits:
        raise Refused(f"the instruction is [{ROWS}, columns, {DEPTH // bits}] for {a.dtype}, found {instruction}")
    if instruction[1] % 8 or not 0 < instruction[1] <= MOST_COLUMNS:
        raise Refused(f"the instruction has columns of multiples of 8 up to {MOST_COLUMNS}, found {instruction[1]}")
    if layout.warps_per_cta[0] % GROUP:
        raise Refused(f"the {GROUP} warps of a group share out rows, found {layout}")
    if shape[0] % (ROWS * layout.warps_per_cta[0]) or shape[1] % (instruction[1] * layout.warps_per_cta[1]):
        raise Refused(f"sums of {shape} are not whole instructions of {instruction} by warps {layout.warps_per_cta}")
    if a.shape[1] % instruction[2]:
        raise Refused(f"an inner extent of {a.shape[1]} is not whole instructions of {instruction[2]}")
    if dtype != tl.float32 and not (dtype == tl.float16 and a.dtype == tl.float16):
        raise Refused(f"sums are float32, found {dtype} for {a.dtype}")
    if isinstance(a, Value):
        wanted = gl.DotOperandLayout(operand_index=0, parent=layout, k_width=32 // bits)
        if a.layout != wanted:
            raise Refused(f"operand a in registers has the layout {wanted}, found {a.layout}")
    for name, view, inner in (("a", a, False), ("b", b, True)):
        if not isinstance(view, View):
            continue
        if not isinstance(view.layout, gl.NVMMASharedLayout):
            raise Refused(f"operand {name} has an NVMMASharedLayout, found {view.layout}")
        if bits != 16 and view.layout.transposed is not inner:
            raise Refused(f"operand {name} of {view.dtype} lies by rows of its inner extent only: {view}")
