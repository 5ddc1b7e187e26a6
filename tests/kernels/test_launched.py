"""Kernels in Triton launched by Triton's own launcher, on a driver that stands for CUDA's.

What is compiled for an absent GPU says nothing of the way there: that grids, numbers, tuples of strides and addresses
arrive in the order and width that a kernel has them, that descriptors are such as the driver takes, and that nothing
wants memory which nobody gives. What a kernel does with them no launch here says.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")
from support import launched

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="Triton builds its launcher with a C compiler"),
]
MODULES = sorted(
    path.stem for path in Path(launched.__file__).parent.glob("*.py") if "def main(capability: int)" in path.read_text()
)
"""Those that compile for an absent GPU: each kernel's author has one, and none is named here."""


@pytest.mark.parametrize("module", MODULES)
def test_what_is_launched_arrives_as_it_was_given(module: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "support.launched", f"support.{module}", "90"],
        env={**kept, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"launched"')]
    assert told, "nothing was launched"
    assert [one for one in told if one["wrong"] or one["scratch"]] == []
    assert all(min(one["grid"]) > 0 and one["threads"] % 128 == 0 for one in told)


def test_kernels_in_triton_are_among_them() -> None:
    assert {"triton_compiled", "triton_attention"} <= set(MODULES)


def encoded(library: ctypes.CDLL, **changes: Any) -> int:
    """What the driver says of a descriptor of [64, 128] bf16, in boxes of [32, 64]."""
    given = {"address": 256, "extents": (128, 64), "strides": (256,), "box": (64, 32), **changes}
    wide, narrow = ctypes.c_uint64 * 5, ctypes.c_uint32 * 5
    of_map = ctypes.create_string_buffer(128)
    return int(library.cuTensorMapEncodeTiled(
        of_map, 9, len(given["extents"]), ctypes.c_void_p(given["address"]), wide(*given["extents"]),
        wide(*given["strides"]), narrow(*given["box"]), narrow(1, 1, 1, 1, 1), 0, 3, 0, 0,
    ))  # fmt: skip


def test_descriptors_that_the_driver_would_refuse_are_refused(tmp_path: Path) -> None:
    library = ctypes.CDLL(str(launched.driver(tmp_path / "absent.so")))  # by the driver's own name torch would find it
    assert encoded(library) == 0
    for wrong in (
        {"address": 264}, {"strides": (264,)}, {"box": (128, 32)}, {"box": (64, 512)}, {"extents": (0, 64)},
        {"box": (4, 32)},
    ):  # fmt: skip
        assert encoded(library, **wrong) == 1, wrong
