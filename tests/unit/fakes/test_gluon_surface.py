"""The names of the emulator of Gluon: those of a version, and all as before afterwards."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import triton

from fakes.gluon import VERSIONS, Refused, emulated
from fakes.gluon.surface import ROOT, modules
from support.gluon_planted import names
from support.interpreted import interpreted

INSTALLED = Path(triton.__file__).parent / "experimental" / "gluon"


def test_names_of_versions_differ() -> None:
    with emulated(version="3.6"):
        from triton.experimental.gluon import language as gl
        from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma

        assert hasattr(gl, "thread_barrier")
        assert not hasattr(gl, "barrier")
        assert not hasattr(tma, "async_load")
        assert not hasattr(tma, "async_atomic_add")
        assert not hasattr(mbarrier, "allocate_mbarrier")
        assert triton.__version__.startswith("3.6")
    with emulated(version="3.9"):
        from triton.experimental.gluon import language as gl
        from triton.experimental.gluon.language.nvidia.hopper import tma

        assert hasattr(gl, "barrier")
        assert not hasattr(gl, "thread_barrier")
        with pytest.raises(RuntimeError, match=r"call async_load instead"):
            tma.async_copy_global_to_shared()
    with pytest.raises(Refused, match=r"3\.5"), emulated(version="3.5"):
        pass


def test_modules_are_as_before_afterwards() -> None:
    before = {name: module for name, module in sys.modules.items() if name.startswith(ROOT)}
    version = triton.__version__
    with pytest.raises(ZeroDivisionError), emulated():
        raise ZeroDivisionError
    assert {name: module for name, module in sys.modules.items() if name.startswith(ROOT)} == before
    assert triton.experimental.gluon is before[ROOT]
    assert triton.__version__ == version


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("language", "language/__init__.py"),
        ("language.nvidia.hopper", "language/nvidia/hopper/__init__.py"),
        ("language.nvidia.hopper.tma", "language/nvidia/hopper/tma.py"),
        ("language.nvidia.hopper.mbarrier", "language/nvidia/hopper/mbarrier.py"),
    ],
)
@pytest.mark.skipif(not triton.__version__.startswith(VERSIONS[-1]), reason="another version is installed")
def test_no_name_is_made_up(module: str, file: str) -> None:
    tree = ast.parse((INSTALLED / file).read_text())
    known = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    known |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    offered = {name for name in vars(modules(VERSIONS[-1])[f"{ROOT}.{module}"]) if not name.startswith("__")}
    assert offered <= known


def test_a_kernel_is_launched_by_a_grid_inside() -> None:
    with emulated():
        from triton.experimental import gluon

        @gluon.jit
        def kernel() -> None:
            pass

        with pytest.raises(Refused, match=r"launched by kernel\[grid\]"):
            kernel()
    with pytest.raises(Refused, match=r"outside of `with emulated"):
        kernel[(1,)]()


def test_kernels_in_triton_are_interpreted_beside() -> None:
    x, y = torch.ones(8), torch.full((8,), 2.0)
    with interpreted(), emulated():
        import triton
        import triton.language as tl

        n = names()

        def add(x, y, N: tl.constexpr):  # type: ignore[no-untyped-def]
            at = tl.arange(0, N)
            tl.store(x + at, tl.load(x + at) + tl.load(y + at))

        @n.jit
        def double(x: Any) -> None:
            n.gl.store(x, n.gl.load(x) * 2.0)

        triton.jit(add)[(1,)](x, y, 8)
        double[(1,)](x)
    assert x.tolist() == [6.0, *[3.0] * 7]
