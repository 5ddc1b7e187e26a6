"""Plug-ins: built-in ones by scan, third-party ones by entry point, one file and no list each."""

import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = """
from perwatt.backends.cpu import Cpu
from perwatt_kernels.registry import Kernel


class Other(Cpu):
    name = "{backend}"


BACKEND = Other()
KERNELS = (Kernel(operation="matmul", impl="mine", impl_class="kernel", build=lambda request: None),)
"""
ENTRY_POINTS = """[perwatt.backends]
other = other_chip:BACKEND

[perwatt.kernels]
other = other_chip:KERNELS
"""


def installed(folder: Path, backend: str = "other", code: str = PLUGIN, points: str = ENTRY_POINTS) -> None:
    """A third-party distribution as pip lays it down."""
    info = folder / "other_chip-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-chip\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    (folder / "other_chip.py").write_text(code.format(backend=backend))


def python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    import os

    path = os.pathsep.join([str(folder), *(p for p in sys.path if p)])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_a_backend_and_a_kernel_of_another_distribution_are_found(tmp_path: Path) -> None:
    installed(tmp_path)
    code = (
        "from perwatt import backends; from perwatt.workloads import get;"
        "print(backends.choose('other').name, get('gemm').impls()['mine'].impl_class)"
    )
    result = python(tmp_path, code)
    assert result.stdout == "other kernel\n", result.stderr


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    installed(tmp_path, backend="cpu")
    result = python(tmp_path, "from perwatt import backends; backends.available()")
    assert "the name 'cpu' is taken" in result.stderr


@pytest.mark.parametrize("code", ["import no_such_module", "raise RuntimeError('no driver')"])
def test_one_that_fails_to_load_is_named(tmp_path: Path, code: str) -> None:
    installed(tmp_path, code=code)
    result = python(tmp_path, "from perwatt import backends; backends.available()")
    assert "entry point other of perwatt.backends" in result.stderr


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from perwatt import backends, workloads;"
        "[w.impls() for w in workloads.available().values()]; backends.available(); sys.exit('torch' in sys.modules)"
    )
    assert python(Path(), code).returncode == 0
