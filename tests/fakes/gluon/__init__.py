"""Gluon for Hopper on the CPU: kernels run as Python, and what is asynchronous on a device is late, early or torn.

Inside :func:`emulated` the modules of ``triton.experimental.gluon`` are those of the emulator, made from Triton's
sources and the instruction set's manual. Values are those of the device but for the order of sums. Partitions take
turns by the seed; copies and products happen as late as ``lateness`` says. Reported are deadlocks, copies and products
that are not waited for, memory that is reused too early, missing fences, bytes that do not match, and what the
compiler would not take. Speed, registers and bank conflicts are not its matter, nor what the bytes of a swizzled tile
are by another layout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

import triton
import triton.experimental
from triton.experimental import gluon as _installed  # noqa: F401 - loaded before it is replaced

from fakes.gluon import session
from fakes.gluon.errors import Deadlock, Hazard, Refused
from fakes.gluon.surface import ROOT, VERSIONS, modules

__all__ = ["VERSIONS", "Deadlock", "Hazard", "Refused", "emulated"]
KEPT = ("gluon_impl", "gluon_site")  # of our modules, which import nothing of Triton


@contextmanager
def emulated(seed: int = 0, lateness: float | None = None, version: str = VERSIONS[-1]) -> Iterator[None]:
    """Kernels in Gluon are emulated inside; afterwards modules are as they were.

    Args:
        seed: of the order of programs, partitions and events.
        lateness: from 0, as early as can be, to 1, as late as can be; drawn for each program where it is ``None``.
        version: of Triton, whose names Gluon has.
    """
    before = {name: module for name, module in sys.modules.items() if _ours(name)}
    number = triton.__version__
    session.begin(session.Session(seed, lateness, version))
    try:
        _forget(before)
        _put(modules(version))
        triton.__version__ = f"{version}.0"
        yield
    finally:
        triton.__version__ = number
        session.end()
        _forget([name for name in sys.modules if _ours(name)])
        _put(before)


def _ours(name: str) -> bool:
    """Whether a module is Gluon's, or one of perwatt's that import it."""
    package, _, last = name.rpartition(".")
    if name == ROOT or name.startswith(f"{ROOT}."):
        return True
    return package.startswith("perwatt_kernels") and last.startswith("gluon_") and last not in KEPT


def _forget(names: Iterable[str]) -> None:
    for name in list(names):
        del sys.modules[name]
        package, _, last = name.rpartition(".")
        if package in sys.modules and hasattr(sys.modules[package], last):
            delattr(sys.modules[package], last)


def _put(modules: Mapping[str, ModuleType]) -> None:
    sys.modules.update(modules)
    for name, module in modules.items():
        package, _, last = name.rpartition(".")
        if package in sys.modules:
            setattr(sys.modules[package], last, module)
