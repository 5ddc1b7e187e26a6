"""Stand-in for ``nki``: ``jit``, ``kernel[n]``, ``simulate``; and counting instructions without computing (api/nki).

A kernel runs as the Python that it is, once ``language_rules`` has found in its source only what the compiler takes.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perwatt_kernels.nki_interpreter.errors import Rejected, reject
from perwatt_kernels.nki_interpreter.formats import FORMATS, Array, name_of
from perwatt_kernels.nki_interpreter.hardware import Generation, generation
from perwatt_kernels.nki_interpreter.language_rules import check
from perwatt_kernels.nki_interpreter.machine import Machine, running
from perwatt_kernels.nki_interpreter.storage import NEVER
from perwatt_kernels.nki_interpreter.stream import Instruction
from perwatt_kernels.nki_interpreter.tensor import NkiTensor

TARGET = "NEURON_PLATFORM_TARGET_OVERRIDE"
DEFAULT_TARGET = "trn3"  # of nki.simulate where no chip is found (guides/nki_simulator)


@dataclass(frozen=True, slots=True)
class Spec:
    """An argument without values: shape and format."""

    shape: tuple[int, ...]
    dtype: str


class Kernel:
    """A kernel, and the number of cores to run it on."""

    def __init__(self, function: Callable[..., Any], lnc: int = 1) -> None:
        functools.update_wrapper(self, function)
        self.function, self.lnc = function, lnc

    def __getitem__(self, lnc: Any) -> Kernel:
        """The kernel on so many cores."""
        if isinstance(lnc, bool) or not isinstance(lnc, int):
            raise reject("launch", f"kernel[{lnc!r}]", "one integer", "get-started/about/lnc")
        return Kernel(self.function, lnc)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it: within another kernel inline, else simulated with ``NKI_SIMULATOR=1``; a device takes the real."""
        if running():
            return self.function(*args, **kwargs)
        if os.environ.get("NKI_SIMULATOR") == "1":
            return simulate(self)(*args, **kwargs)
        raise Rejected(
            "launch: found no Neuron SDK, expected nki.simulate(kernel)(..) or NKI_SIMULATOR=1 (nki_simulator)"
        )


def jit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a kernel of a function."""
    if function is None:
        return lambda found: Kernel(found)
    return Kernel(function)


def simulate(kernel: Any) -> Callable[..., Any]:
    """A function that runs a kernel on NumPy arrays or torch tensors and returns its results alike.

    The generation is that of ``NEURON_PLATFORM_TARGET_OVERRIDE``. Arguments that the kernel writes to are changed.
    """

    def run(*args: Any, **kwargs: Any) -> Any:
        target = generation(os.environ.get(TARGET) or DEFAULT_TARGET)
        return interpret(kernel, args, kwargs, target).results

    return run


@dataclass(frozen=True, slots=True)
class Run:
    """What a kernel did.

    Attributes:
        results: its outputs, as arrays; specs where nothing was computed.
        streams: instructions of each core.
        generation: that it ran on.
    """

    results: Any
    streams: tuple[list[Instruction], ...]
    generation: Generation


def interpret(kernel: Any, args: Sequence[Any], kwargs: dict[str, Any], target: Generation) -> Run:
    """Run a kernel on NumPy arrays, torch tensors, or specs; with specs instructions are counted only.

    Raises:
        Rejected: anything that the documentation says hardware or compiler refuse.
    """
    made = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
    check(made.function)
    for name, one in (*((f"argument {at}", one) for at, one in enumerate(args)), *kwargs.items()):
        if isinstance(one, list):
            raise reject(name, "a list", "a tuple", "nki migration, 0.2 to 0.3")
    counting = any(isinstance(one, Spec) for one in (*args, *kwargs.values()))
    machine = Machine(target, made.lnc, values=not counting)
    changed: list[tuple[Any, NkiTensor]] = []
    given = [_argument(machine, f"argument {at}", one, changed) for at, one in enumerate(args)]
    named = {name: _argument(machine, name, one, changed) for name, one in kwargs.items()}
    results = machine.run(made.function, given, named)
    torch = any(_is_torch(one) for one in (*args, *kwargs.values()))
    for original, tensor in changed:
        _copy_back(original, tensor)
    out = _results(machine, results, torch)
    return Run(out, tuple(core.stream for core in machine.cores), target)


def _is_torch(found: Any) -> bool:
    return type(found).__module__.partition(".")[0] == "torch" and hasattr(found, "untyped_storage")


def _argument(machine: Machine, name: str, found: Any, changed: list[tuple[Any, NkiTensor]]) -> Any:
    """An array in HBM; anything else as it is."""
    if isinstance(found, Spec):
        if machine.values:
            raise Rejected(f"{name}: found a spec among arrays, expected specs alone, to count instructions")
        return machine.argument(name, found.shape, found.dtype, None)
    if not isinstance(found, np.ndarray) and not _is_torch(found):
        return found
    values = _to_numpy(found)
    tensor = machine.argument(name, values.shape or (1,), name_of(values.dtype), values if machine.values else None)
    changed.append((found, tensor))
    return tensor


def _to_numpy(found: Any) -> Array:
    if isinstance(found, np.ndarray):
        return found
    name = str(found.dtype).partition(".")[2]
    raw = found.detach().cpu().contiguous()
    if name in FORMATS and (name == "bfloat16" or name.startswith("float8")):
        import torch

        bits = raw.view(torch.int16 if name == "bfloat16" else torch.uint8).numpy()
        return np.asarray(bits.view(FORMATS[name].stored))
    return np.asarray(raw.numpy())


def _to_torch(values: Array, dtype: str) -> Any:
    import torch

    if dtype == "bfloat16" or dtype.startswith("float8"):
        bits = values.view(np.int16 if dtype == "bfloat16" else np.uint8)
        return torch.from_numpy(bits.copy()).view(getattr(torch, dtype))
    return torch.from_numpy(values.copy())


def _copy_back(original: Any, tensor: NkiTensor) -> None:
    if tensor.storage.data is None or not tensor.storage.writers:
        return
    if isinstance(original, np.ndarray):
        original[...] = tensor.values().reshape(original.shape)
    else:
        original.copy_(_to_torch(tensor.values(), tensor.dtype).reshape(original.shape))


def _results(machine: Machine, results: Sequence[Any], torch: bool) -> Any:
    """Outputs of the first core, checked against those of the second."""
    first = results[0]
    many = isinstance(first, (tuple, list))
    for result in results:
        for one in result if many else (result,):
            if not isinstance(one, NkiTensor) or one.buffer != "shared_hbm":
                raise reject(
                    "result", getattr(one, "buffer", one), "a tensor in shared_hbm", "nki-language-guide, output"
                )
    if len(results) > 1 and [_id(one, many) for one in results[:1]] != [_id(one, many) for one in results[1:]]:
        raise Rejected("result: the cores return different tensors (about/lnc)")
    found = [_result(machine, one, torch) for one in (first if many else (first,))]
    return tuple(found) if many else found[0]


def _id(result: Any, many: bool) -> list[int]:
    return [id(one.storage) for one in (result if many else (result,))]


def _result(machine: Machine, tensor: NkiTensor, torch: bool) -> Any:
    if not machine.values:
        return Spec(tensor.shape, tensor.dtype)
    unwritten = int((tensor.marks() == NEVER).any(axis=-1).sum())
    if unwritten:
        raise Rejected(f"result: {unwritten} of {tensor.size} elements of {tensor.name!r} were never written")
    values = np.ascontiguousarray(tensor.values())
    return _to_torch(values, tensor.dtype) if torch else values
