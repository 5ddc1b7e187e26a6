"""Fixtures for tests of kernels."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from perwatt import plugins


@pytest.fixture(scope="module")
def triton_interpreter() -> Iterator[None]:
    """Triton kernels run in Triton's interpreter, which a kernel's module asks for when it is imported.

    So those modules are imported anew before and after, and the registry is asked anew: whether a kernel runs on a CPU
    is no other test's business.
    """
    triton, numpy = pytest.importorskip("triton"), pytest.importorskip("numpy")
    if _version(triton) < (3, 7) and _version(numpy) >= (2, 4):
        pytest.skip(f"the interpreter of Triton {triton.__version__} fails with NumPy from 2.4 on, in every loop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        _import_anew()
        yield
    _import_anew()


def _version(module: ModuleType) -> tuple[int, int]:
    major, minor = module.__version__.split(".")[:2]
    return int(major), int(minor)


def _import_anew() -> None:
    """Forget modules of Triton kernels, and what the registry found in them."""
    for name in [name for name in sys.modules if name.startswith("perwatt_kernels.") and ".triton_" in name]:
        package, _, module = name.rpartition(".")
        del sys.modules[name]
        if hasattr(sys.modules[package], module):
            delattr(sys.modules[package], module)
    plugins.find.cache_clear()
