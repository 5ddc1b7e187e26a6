"""Which layouts go with what; those that follow from an operation are asked of the installed compiler.

It infers them without a GPU: the operation is built in an empty module for Hopper, and its result has the layout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import Any
from unittest import mock

from triton._C.libtriton import ir
from triton._C.libtriton.gluon_ir import GluonOpBuilder
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language import _layouts
from triton.experimental.gluon.language._semantic import GluonSemantic

from fakes.gluon.errors import Refused

INSTALLED = {name: module for name, module in sys.modules.items() if name.startswith("triton.experimental.gluon")}
THREADS = 32
SIXTEEN = 16  # bytes: what a copy is aligned to


def verify(layout: Any, shape: list[int], warps: int) -> None:
    """A layout of registers must have the tensor's rank, and spread over the warps that run it."""
    if not isinstance(layout, _layouts.DistributedLayout):
        raise Refused(f"a tensor has a layout of registers, found {layout!r}")
    if isinstance(layout, gl.AutoLayout | gl.CoalescedLayout):
        return
    if layout.rank != len(shape):
        raise Refused(f"a layout of rank {layout.rank} for a tensor of shape {shape}: {layout}")
    if prod(shape) & (prod(shape) - 1):
        raise Refused(f"a tensor has powers of two as its shape, found {shape}")
    problem = _problem(layout, warps)
    if problem:
        raise Refused(f"{problem}: {layout}")


@cache
def _problem(layout: Any, warps: int) -> str:
    if isinstance(layout, gl.SliceLayout | gl.DotOperandLayout):
        return _problem(layout.parent, warps)
    if isinstance(layout, gl.DistributedLinearLayout):
        lanes, spread = 2 ** len(layout.lane_bases), 2 ** len(layout.warp_bases)
    else:
        lanes = prod(layout.threads_per_warp) if isinstance(layout, gl.BlockedLayout) else THREADS
        spread = prod(layout.warps_per_cta)
    if lanes != THREADS:
        return f"a warp has {THREADS} threads, the layout {lanes}"
    if spread != warps:
        return f"{warps} warps run this, the layout has {spread}"
    return ""


def of_registers(how: str, shape: tuple[int, ...], layout: Any, warps: int, *told: Any) -> Any:
    """Layout of a permuted, reshaped, joined or split tensor."""
    if isinstance(layout, gl.AutoLayout | gl.CoalescedLayout):
        raise Refused(f"{how} of a tensor without a layout")
    return _of_registers(how, shape, layout, warps, *told)


@cache
def _of_registers(how: str, shape: tuple[int, ...], layout: Any, warps: int, *told: Any) -> Any:
    with _empty(warps) as semantic:
        made = semantic.full(list(shape), 0.0, gl.float32, layout)
        if how == "permute":
            result = semantic.permute(made, told[0])
        elif how == "reshape":
            result = semantic.reshape(made, list(told[0]), False)
        elif how == "join":
            result = semantic.join(made, made)
        else:
            result = semantic.split(made)[0]
        return result.type.layout


@cache
def of_memory(how: str, dtype: Any, shape: tuple[int, ...], layout: Any, told: tuple[int, ...]) -> Any:
    """Layout of permuted or reshaped shared memory."""
    with _empty(4) as semantic:
        made = semantic.allocate_shared(dtype, list(shape), layout, None)
        return (semantic.memdesc_trans if how == "permute" else semantic.memdesc_reshape)(made, list(told)).layout


@contextmanager
def _empty(warps: int) -> Iterator[Any]:
    """Operations go into a module for Hopper; the compiler looks for its own modules as it says what came out."""
    context = ir.context()
    ir.load_dialects(context)
    builder = GluonOpBuilder(context)
    module = builder.create_module()
    module.set_attr("ttg.target", builder.get_string_attr("cuda:90"))
    for name, value in (("ttg.num-warps", warps), ("ttg.num-ctas", 1), ("ttg.threads-per-warp", THREADS)):
        module.set_attr(name, builder.get_int32_attr(value))
    function = builder.get_or_insert_function(module, "empty", builder.get_function_ty([], []), "public", False)
    module.push_back(function)
    builder.set_insertion_point_to_start(function.add_entry_block())
    with mock.patch.dict(sys.modules, INSTALLED):
        yield GluonSemantic(builder)


def verify_shared(layout: Any, shape: list[int], dtype: Any) -> None:
    """A layout of shared memory must fit what is allocated: its format, and whole swizzled rows of 8."""
    if not isinstance(layout, _layouts.SharedLayout):
        raise Refused(f"shared memory has a shared layout, found {layout!r}")
    if not isinstance(layout, gl.NVMMASharedLayout):
        return
    if layout.rank > len(shape):
        raise Refused(f"a layout of rank {layout.rank} for shared memory of shape {shape}: {layout}")
    if layout.element_bitwidth != dtype.primitive_bitwidth:
        raise Refused(f"a layout for {layout.element_bitwidth} bits, of elements of {dtype}: {layout}")
    block = list(shape[-layout.rank :])
    if any(size & (size - 1) for size in block):
        raise Refused(f"tiles of shared memory have powers of two as their shape, found {block}")
    inner = (block[0] if layout.transposed else block[-1]) * layout.element_bitwidth // 8
    if layout.swizzle_byte_width and inner % layout.swizzle_byte_width:
        raise Refused(f"rows of {inner} bytes do not fill a swizzle of {layout.swizzle_byte_width}: {shape}")
    outer = prod(block) * layout.element_bitwidth // 8 // inner
    if layout.swizzle_byte_width and outer < 8:
        raise Refused(f"a swizzle takes 8 rows, found {outer}: {shape}")
