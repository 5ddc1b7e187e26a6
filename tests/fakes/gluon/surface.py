"""The modules of Gluon as a version of Triton has them: names, and nothing that the version lacks."""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import triton.language as tl
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language import _layouts
from triton.experimental.gluon.language.nvidia.hopper import mbarrier as installed

from fakes.gluon import barriers, copies, jit, layouts, mathematics, operations, pointers, products
from fakes.gluon.errors import Refused
from fakes.gluon.machine import program
from fakes.gluon.memory import View
from fakes.gluon.tensors import Value

ROOT = "triton.experimental.gluon"
HOST = (f"{ROOT}.nvidia", f"{ROOT}.amd")  # descriptors, as they are installed: Triton's launcher too looks for them
VERSIONS = ("3.6", "3.9")
TYPES = (
    "int1", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float8e5", "float8e4nv",
    "float16", "bfloat16", "float32", "float64", "pointer_type", "block_type", "void", "dtype",
    "distributed_type", "shared_memory_descriptor_type",
)  # fmt: skip
LAYOUTS = (
    "AutoLayout", "BlockedLayout", "SliceLayout", "DistributedLinearLayout", "DotOperandLayout",
    "NVMMADistributedLayout", "NVMMASharedLayout", "SwizzledSharedLayout", "PaddedSharedLayout", "SharedLinearLayout",
    "CoalescedLayout",
)  # fmt: skip
OPERATIONS = (
    "constexpr", "program_id", "num_programs", "num_warps", "num_ctas", "static_range", "static_assert", "static_print",
    "device_print", "device_assert", "assume", "multiple_of", "max_contiguous", "max_constancy", "to_tensor", "arange",
    "full", "zeros", "full_like", "zeros_like", "convert_layout", "set_auto_layout", "allocate_shared_memory", "cast",
    "expand_dims", "broadcast", "permute", "reshape", "ravel", "split", "join", "where",
)  # fmt: skip
MATHEMATICS = (
    "maximum", "minimum", "add", "sub", "mul", "fma", "cdiv", "exp", "exp2", "log", "log2", "sqrt", "sqrt_rn", "rsqrt",
    "sin", "cos", "erf", "floor", "ceil", "abs", "fdiv", "div_rn", "max", "min", "sum", "reduce_or",
)  # fmt: skip
BY_POINTERS = ("load", "store", "atomic_add", "atomic_max", "atomic_min", "atomic_xchg", "atomic_cas")


def modules(version: str) -> dict[str, ModuleType]:
    """By their full names, each an attribute of the one it is in."""
    if version not in VERSIONS:
        raise Refused(f"Gluon is emulated as of Triton {VERSIONS}, found {version}")
    old = version == VERSIONS[0]
    hopper = {
        "fence_async_shared": fence_async_shared, "warpgroup_mma": products.warpgroup_mma,
        "warpgroup_mma_init": products.init, "warpgroup_mma_wait": products.warpgroup_mma_wait,
        "warpgroup_mma_accumulator": products.Accumulator,
    }  # fmt: skip
    contents: dict[str, dict[str, Any]] = {
        "": {"jit": jit.jit, "constexpr_function": jit.constexpr_function, "must_use_result": lambda fn: fn},
        "language": _language(old),
        "language.nvidia": {},
        "language.nvidia.hopper": hopper,
        "language.nvidia.hopper.tma": _tma(old),
        "language.nvidia.hopper.mbarrier": _mbarrier(old),
    }
    if not old:
        contents[""]["aggregate"] = jit.aggregate
    made = {}
    for name, members in contents.items():
        module: Any = ModuleType(f"{ROOT}.{name}".rstrip("."))
        module.__path__ = []
        module.__dict__.update(members)
        made[module.__name__] = module
        parent, _, last = module.__name__.rpartition(".")
        if parent in made:
            setattr(made[parent], last, module)
    for name, module in layouts.INSTALLED.items():
        if name.startswith(HOST):
            made[name] = module
            if name in HOST:
                setattr(made[ROOT], name.rpartition(".")[2], module)
    return made


def _language(old: bool) -> dict[str, Any]:
    names = {name: getattr(operations, name) for name in OPERATIONS}
    names |= {name: getattr(mathematics, name) for name in MATHEMATICS}
    names |= {name: getattr(pointers, name) for name in BY_POINTERS}
    names |= {name: getattr(_layouts, name) for name in LAYOUTS}
    names |= {name: getattr(gl, name) for name in TYPES}
    names |= {"shared_memory_descriptor": View, "tensor": Value, "tuple": tuple}
    if old:
        return names | {"thread_barrier": operations.thread_barrier, "warp_specialize": _specialize_old}
    return names | {"barrier": operations.barrier, "clamp": mathematics.clamp, "warp_specialize": _specialize}


def _specialize_old(functions_and_args: Any, worker_num_warps: Any, worker_num_regs: Any) -> Any:
    """Registers must be given, and results are handed back as a tuple."""
    results = jit.warp_specialize(functions_and_args, worker_num_warps, worker_num_regs)
    if results is not None and not isinstance(results, tuple):
        raise Refused("before 3.7 the default partition hands back a tuple, or nothing")
    return results


def _specialize(functions_and_args: Any, worker_num_warps: Any, worker_num_regs: Any = None) -> Any:
    return jit.warp_specialize(functions_and_args, worker_num_warps, worker_num_regs)


def fence_async_shared(cluster: bool = False) -> None:
    """What this partition has written is shown to copies and products."""
    state = program()
    state.schedule.turn()
    state.memory.fence(state.partition.number)


def _mbarrier(old: bool) -> dict[str, Any]:
    names: dict[str, Any] = {
        "MBarrierLayout": installed.MBarrierLayout, "init": barriers.init, "invalidate": barriers.invalidate,
        "wait": barriers.wait,
    }  # fmt: skip
    if old:
        return names | {"expect": _expect_old, "arrive": _arrive_old}
    return names | {"expect": _expect, "arrive": _arrive, "allocate_mbarrier": _allocate}


def _expect_old(mbarrier: Any, bytes: Any, pred: Any = True) -> None:
    barriers.expect(mbarrier, bytes, pred)


def _arrive_old(mbarrier: Any, *, count: int = 1, pred: Any = True) -> None:
    barriers.arrive(mbarrier, count, pred)


def _expect(mbarrier: Any, bytes_per_cta: Any = None, pred: Any = True, *, from_cta: Any = None) -> None:
    barriers.expect(mbarrier, bytes_per_cta, pred)


def _arrive(mbarrier: Any, *, count: int = 1, pred: Any = True, from_cta: Any = None) -> None:
    barriers.arrive(mbarrier, count, pred)


def _allocate(batch: int | None = None, two_ctas: bool = False) -> View:
    shape = [1] if batch is None else [batch, 1]
    return operations.allocate_shared_memory(tl.int64, shape, installed.MBarrierLayout())


def _tma(old: bool) -> dict[str, Any]:
    names: dict[str, Any] = {"make_tensor_descriptor": make_tensor_descriptor, "tensor_descriptor": copies.Descriptor}
    if old:
        return names | {
            "async_copy_global_to_shared": copies.load, "async_copy_shared_to_global": _store,
            "store_wait": copies.store_wait,
        }  # fmt: skip
    names |= {
        "async_load": _load, "async_store": _store_new, "store_wait": _store_wait,
        "async_copy_global_to_shared": _removed("async_copy_global_to_shared", "async_load"),
        "async_copy_shared_to_global": _removed("async_copy_shared_to_global", "async_store"),
    }  # fmt: skip
    reductions = {"add": torch.add, "min": torch.minimum, "max": torch.maximum}
    bits = {"and": operator.and_, "or": operator.or_, "xor": operator.xor}
    return names | {f"async_atomic_{name}": _reduction(how) for name, how in (reductions | bits).items()}


def _store(tensor_desc: Any, coord: Any, src: Any) -> None:
    copies.store(tensor_desc, coord, src)


def _load(
    tensor_desc: Any, coord: Any, barrier: Any, result: Any, pred: Any = True, multicast: bool = False,
    cache_policy: Any = None,
) -> None:  # fmt: skip
    copies.load(tensor_desc, coord, barrier, result, pred)


def _store_new(tensor_desc: Any, coord: Any, src: Any, cache_policy: Any = None) -> None:
    copies.store(tensor_desc, coord, src)


def _store_wait(pendings: Any, read_only: bool = True) -> None:
    copies.store_wait(pendings)


def _reduction(how: Any) -> Callable[..., None]:
    def reduce(tensor_desc: Any, coord: Any, src: Any) -> None:
        copies.store(tensor_desc, coord, src, how)

    return reduce


def _removed(name: str, instead: str) -> Callable[..., None]:
    def removed(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError(f"{name} has been removed; call {instead} instead")

    return removed


def make_tensor_descriptor(
    base: Any, shape: Any, strides: Any, block_shape: Any, layout: Any, padding_option: str = "zero"
) -> copies.Descriptor:
    """Of a pointer, in the kernel."""
    if not isinstance(base, Value) or not base.dtype.is_ptr() or base.block:
        raise Refused(f"expected a pointer, found {base}")
    first = int(base.data)
    return copies.Descriptor(base.memory.data[first:], shape, strides, block_shape, layout, padding_option)
