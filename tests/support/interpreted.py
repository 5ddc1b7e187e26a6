"""Triton in its interpreter, which it decides on as it is imported: so it and its kernels are imported anew."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from unittest import mock

LIBRARY = "triton._C"  # the compiled part stays: it cannot be loaded twice, and knows nothing of the interpreter


@contextmanager
def interpreted() -> Iterator[None]:
    """Kernels in Triton run in the interpreter inside; afterwards modules and environment are as they were."""
    before = {name: module for name, module in sys.modules.items() if _ours(name)}
    with mock.patch.dict(os.environ, {"TRITON_INTERPRET": "1"}):
        try:
            _forget(before)
            yield
        finally:
            _forget([name for name in sys.modules if _ours(name)])
            _restore(before)


def _ours(name: str) -> bool:
    """Whether a module is Triton's, or one of perwatt's that import it."""
    package, _, last = name.rpartition(".")
    if name == "triton" or name.startswith("triton."):
        return not name.startswith(LIBRARY)
    return package.startswith("perwatt_kernels.") and last.startswith("triton_") and last != "triton_impl"


def _forget(names: Iterable[str]) -> None:
    for name in list(names):
        del sys.modules[name]
        package, _, last = name.rpartition(".")
        if package in sys.modules and hasattr(sys.modules[package], last):
            delattr(sys.modules[package], last)


def _restore(modules: Mapping[str, ModuleType]) -> None:
    sys.modules.update(modules)
    for name, module in modules.items():
        package, _, last = name.rpartition(".")
        if package in sys.modules:
            setattr(sys.modules[package], last, module)
