"""Kernels of a module that compiles for an absent GPU, launched as well: with Triton's own launcher, up to the driver.

``python -m support.launched support.triton_compiled 90`` prints a line of JSON for each launch: the kernel, its grid,
and which of its parameters did not arrive as they were given. What stands for CUDA's driver is ``absent_driver.c``.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support import absent_gpu

SIZES = {"8": 1, "16": 2, "32": 4, "64": 8}  # bytes, by the bits in the name of a type of PTX
_listening: list[Any] = []


def main(module: str, capability: int) -> None:
    """Do what the module does, and launch what it only compiles."""
    folder = Path(tempfile.mkdtemp())
    library = ctypes.CDLL(str(driver(folder / "libcuda.so.1")), mode=ctypes.RTLD_GLOBAL)
    os.environ["TRITON_LIBCUDA_PATH"] = str(folder)
    absent_gpu.compile_for = lambda own: launching(own, library)
    importlib.import_module(module).main(capability)


def driver(path: Path) -> Path:
    """CUDA's driver library as far as it is there, built; whatever else Triton names does nothing."""
    from triton.backends import nvidia

    source = Path(__file__).with_name("absent_driver.c").read_text()
    wanted = (Path(nvidia.__file__).parent / "driver.c").read_text()
    named = set(re.findall(r"\bcu[A-Z]\w*(?<!_t)(?=\()", wanted)) - set(re.findall(r"\bcu[A-Z]\w*(?=\()", source))
    more = "\n".join(f"int {name}() {{ return 0; }}" for name in sorted(named))
    command = ["gcc", "-shared", "-fPIC", "-w", "-x", "c", "-", f"-Wl,-soname,{path.name}", "-o", str(path)]
    subprocess.run(command, input=f"{source}\n{more}\n", text=True, check=True)
    return path


def launching(capability: int, library: ctypes.CDLL) -> list[Any]:
    """As :func:`support.absent_gpu.compile_for`; each launch is carried out and told."""
    from triton.backends.nvidia import driver as nvidia
    from triton.runtime import driver as runtime
    from triton.runtime.jit import JITFunction

    class Driver(absent_gpu.Absent):
        def __init__(self) -> None:
            super().__init__(capability)
            self.utils, self.launcher_cls = nvidia.CudaUtils(), nvidia.CudaLauncher

    made: list[Any] = []
    arrived: list[tuple[list[int], list[bytes]]] = []
    sizes: list[int] = []

    @ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint), ctypes.POINTER(ctypes.c_void_p))
    def listener(config: Any, parameters: Any) -> None:
        arrived.append((config[:7], [ctypes.string_at(parameters[i], size) for i, size in enumerate(sizes)]))

    library.listen(listener)
    _listening.append(listener)  # the library does not hold it
    runtime.set_active(Driver())
    run = JITFunction.run

    def launch(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        made.append(kernel)
        arrived.clear()
        sizes[:] = parameters_of(kernel.asm["ptx"])
        run(self, *args, grid=grid, warmup=False, **options)
        given = dict(zip(self.arg_names, args, strict=False)) | options
        wanted = list(flat(given, kernel.src.signature))
        ((config, values),) = arrived
        wrong = [place for place, (one, found) in enumerate(zip(wanted, values, strict=False)) if not same(one, found)]
        if len(values) != len(wanted) + 2:  # two pieces of memory for whatever the compiler wants follow
            wrong.append(len(values))
        told = {"launched": kernel.metadata.name, "grid": config[:3], "threads": config[3], "wrong": wrong,
                "scratch": kernel.metadata.global_scratch_size}  # fmt: skip
        print(json.dumps(told), flush=True)
        return kernel

    JITFunction.run = launch
    return made


def parameters_of(ptx: str) -> list[int]:
    """Bytes of each parameter of a kernel."""
    head = ptx[ptx.index(".entry") :]
    found = re.findall(r"\.param .*?\.[usfb](8|16|32|64)\b[^,\[\n]*(?:\[(\d+)\])?", head[: head.index(")")])
    return [SIZES[bits] * int(count or 1) for bits, count in found]


def flat(given: dict[str, Any], signature: dict[str, Any]) -> Iterator[Any]:
    """What a kernel is to receive: addresses, numbers, and for a descriptor its address, extents and strides."""
    for name, kind in signature.items():
        yield from _flat(given.get(name), kind)


def _flat(value: Any, kind: Any) -> Iterator[Any]:
    if isinstance(kind, tuple):
        for one, own in zip(value, kind, strict=True):
            yield from _flat(one, own)
    elif kind.startswith("tensordesc"):
        yield from (value.base.data_ptr(), *value.shape, *value.strides)
    elif kind.startswith("*"):
        yield value.data_ptr()
    elif kind != "constexpr":
        yield float(value) if kind.startswith("fp") else int(value)


def same(wanted: float, found: bytes) -> bool:
    """Whether a parameter is what was given; of a descriptor the address comes first."""
    if isinstance(wanted, float):
        return found == struct.pack("f", wanted)
    return int.from_bytes(found[:8], "little", signed=True) == wanted


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
