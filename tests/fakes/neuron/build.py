"""The device's C++ part, built once for each torch, Python and state of its source; whoever comes later waits for it.

``python build.py`` prints the path of the library. No ninja and no setuptools: one compiler call, whose flags
``torch.utils.cpp_extension`` knows.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).parent / "device"
NAME = "neuron_device"
STANDARD = "c++20"  # of torch's headers from 2.12 on; older ones are content with it
COMPILERS = ("g++", "clang++")


def compiler() -> str | None:
    """The C++ compiler, or None where there is none."""
    return next((found for name in (os.environ.get("CXX"), *COMPILERS) if name and (found := shutil.which(name))), None)


def library() -> Path:
    """The built extension module.

    Raises:
        RuntimeError: no compiler, or it fails.
    """
    folder = _folder()
    built = folder / f"{NAME}{sysconfig.get_config_var('EXT_SUFFIX')}"
    if built.exists():
        return built
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            _build(built)
    return built


def _folder() -> Path:
    import torch
    from torch.utils import cpp_extension

    root = os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root()
    source = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCE.iterdir()))).hexdigest()[:12]
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return Path(root, NAME, f"torch{torch.__version__}-{python}-{source}")


def _build(built: Path) -> None:
    import torch
    from torch.utils import cpp_extension

    if (command := compiler()) is None:
        raise RuntimeError("found no C++ compiler, expected g++ or clang++: install one or set CXX")
    unfinished = built.with_suffix(".part")
    folders = [*cpp_extension.include_paths(), sysconfig.get_path("include")]
    done = subprocess.run(
        [command, "-shared", "-fPIC", "-O1", f"-std={STANDARD}", "-w", f"-DTORCH_EXTENSION_NAME={NAME}",
         f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
         *(word for folder in folders for word in ("-isystem", folder)), str(SOURCE / "device.cpp"),
         *(word for folder in cpp_extension.library_paths() for word in (f"-L{folder}", f"-Wl,-rpath,{folder}")),
         "-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python", "-o", str(unfinished)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the device does not build: {done.stderr[:4000]}")
    unfinished.rename(built)


if __name__ == "__main__":
    print(library())
