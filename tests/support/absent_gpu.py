"""Triton compiling for a GPU that is not there: launches stop before the device, and give what was compiled.

For a process of its own: in that of the tests kernels are interpreted, and what is compiled for an absent device is
remembered as for a present one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.runtime import driver
from triton.runtime.jit import JITFunction


class Absent:
    """The driver of a GPU of some capability, as far as a compiler asks."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def compile_for(capability: int) -> list[Any]:
    """From now on launches compile for a capability, 90 for 9.0; what they compiled is put into the list."""
    made: list[Any] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        made.append(run(self, *args, grid=grid, warmup=True, **options))
        return made[-1]

    JITFunction.run = compile_only
    driver.set_active(Absent(capability))
    return made


def assembled(kernel: Any) -> str:
    """What the assembler says of a kernel for Hopper: registers, spills, products that it puts one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(kernel.asm["ptx"])
        command = [get_ptxas(90).path, "-v", "-arch=sm_90a", str(source), "-o", str(Path(folder, "kernel.cubin"))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def lines_of(module: str, capability: int) -> list[str]:
    """What a module that compiles prints in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, str(capability)],
        env={**kept, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True,
        timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()
