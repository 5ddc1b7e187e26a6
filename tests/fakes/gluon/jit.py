"""`@gluon.jit`: functions of kernels run as Python, with the few builtins that the compiler knows."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
import triton.language as tl

from fakes.gluon import mathematics, operations
from fakes.gluon.copies import Descriptor
from fakes.gluon.errors import Refused
from fakes.gluon.machine import Program, left_over, program, running, within
from fakes.gluon.pointers import pointer
from fakes.gluon.session import session
from fakes.gluon.tensors import Value, value

BUILTINS = {
    "len": len, "list": list, "range": operations.loop, "float": float, "int": int, "isinstance": isinstance,
    "getattr": getattr, "hasattr": hasattr, "print": operations.device_print, "min": mathematics.minimum,
    "max": mathematics.maximum,
}  # fmt: skip
WARPS = (1, 2, 4, 8, 16, 32)
MOST_REGISTERS = 255  # of a thread
OPTIONS = ("num_ctas", "num_stages", "maxnreg", "enable_fp_fusion", "debug")  # besides `num_warps`, without effect here


class Function:
    """What is compiled: a kernel, launched by `[grid]`, or a function that kernels call."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.signature = inspect.signature(fn)
        self.constants = {name for name, one in self.signature.parameters.items() if _constant(one.annotation)}
        self.__name__ = fn.__name__
        functools.update_wrapper(self, fn)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not within():
            raise Refused(f"a kernel is launched by {self.__name__}[grid](...)")
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name in self.constants:
            if isinstance(bound.arguments[name], Value):
                raise Refused(f"{self.__name__}: {name} is a constexpr, found a value of the device")
        return self._python()(*bound.args, **bound.kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return functools.partial(self.run, grid=grid)

    def _python(self) -> Callable[..., Any]:
        fn: Any = self.fn
        names = {**fn.__globals__, "__builtins__": BUILTINS}
        made = FunctionType(fn.__code__, names, fn.__name__, fn.__defaults__, fn.__closure__)
        made.__kwdefaults__ = fn.__kwdefaults__
        return made

    @torch.no_grad()
    def run(self, *args: Any, grid: Any, warmup: bool = False, num_warps: int = 4, **kwargs: Any) -> None:
        """Every program of the grid, in an order of the seed."""
        for name in OPTIONS:
            option = kwargs.pop(name, None) if name not in self.signature.parameters else None
            if name == "num_ctas" and option not in (None, 1):
                raise Refused("clusters are not emulated")
            if name == "maxnreg" and option is not None and not 0 < option <= MOST_REGISTERS:
                raise Refused(f"maxnreg is up to {MOST_REGISTERS}, found {option}")
        if num_warps not in WARPS:
            raise Refused(f"num_warps is one of {WARPS}, found {num_warps}")
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        extents = tuple(int(size) for size in (grid(given) if callable(grid) else grid))
        extents = (*extents, 1, 1)[: max(3, len(extents))]
        present = session()
        places = list(itertools.product(*(range(size) for size in extents)))
        present.rng.shuffle(places)
        for place in places:
            state = Program(place, extents, num_warps, present.rng, present.draw())
            with running(state):
                self(**{name: self._argument(name, one) for name, one in given.items()})
                state.finish()

    def _argument(self, name: str, given: Any) -> Any:
        if name in self.constants or given is None or isinstance(given, str | tl.dtype):
            return given
        if isinstance(given, torch.Tensor):
            return pointer(given)
        if isinstance(given, bool | int | float):
            return value(given)
        if hasattr(given, "block_shape"):
            return Descriptor(given.base, given.shape, given.strides, given.block_shape, given.layout, given.padding)
        if isinstance(given, tuple | list):
            return tuple(self._argument("", one) for one in given)
        raise Refused(f"{self.__name__}: a kernel cannot take {name}, a {type(given).__name__}")


def _constant(annotation: Any) -> bool:
    return annotation is operations.constexpr or (isinstance(annotation, str) and annotation.endswith("constexpr"))


@dataclass
class _Options:
    """What `@gluon.jit(...)` takes."""

    version: Any = None
    repr: Any = None
    launch_metadata: Any = None
    do_not_specialize: Any = None
    do_not_specialize_on_alignment: Any = None
    debug: Any = None
    noinline: Any = None


def jit(fn: Callable[..., Any] | None = None, **options: Any) -> Any:
    _Options(**options)
    return Function if fn is None else Function(fn)


def constexpr_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    return fn


def aggregate(cls: Any) -> Any:
    """A class of values; its functions are compiled, or of compilation."""
    return cls


def warp_specialize(functions_and_args: Any, worker_num_warps: Any, worker_num_regs: Any) -> Any:
    """The default partition goes on in the warps of the program, each of the others in warps of its own."""
    for _, args in functions_and_args:
        if not isinstance(args, tuple):
            raise Refused(f"function arguments must be a tuple of arguments, but got {type(args)}")
    (default, given), *workers = functions_and_args
    if len(workers) != len(worker_num_warps):
        raise Refused(f"warp specialize got {len(workers)} partitions but {len(worker_num_warps)} warp counts")
    if worker_num_regs is not None and len(workers) != len(worker_num_regs):
        raise Refused(f"warp specialize got {len(workers)} partitions but {len(worker_num_regs)} register counts")
    for warps in worker_num_warps:
        if warps not in WARPS:
            raise Refused(f"a partition has a power of two of warps, found {warps}")
    for registers in worker_num_regs or ():
        if not 24 <= registers <= 256:
            raise Refused(f"a thread has 24 to 256 registers, found {registers}")
    prepared = []
    for (function, args), warps in zip(workers, worker_num_warps, strict=True):
        for one in args:
            if isinstance(one, Value) and one.block:
                raise Refused(f"{function.__name__} is given a tensor, which only the default partition can take")
        prepared.append((function.__name__, warps, functools.partial(_ended, function, args)))
    return program().specialize(lambda: _ended(default, given), prepared)


def _ended(function: Any, args: tuple[Any, ...]) -> Any:
    """A partition from its beginning to its end."""
    result = function(*args)
    left_over(program().partition)
    return result
