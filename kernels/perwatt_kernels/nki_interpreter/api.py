"""What kernels import: ``from perwatt_kernels.nki_interpreter.api import nki, nisa, nl``.

The real ``nki`` where it is installed, else the stand-ins. The public index has an empty package of that name, so what
counts is ``nki.isa`` and a version that these instructions are of.
"""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from typing import Any

OLDEST = (0, 6)  # of the real nki whose signatures are used here


def real() -> bool:
    """Whether the real ``nki`` is installed, at a version that has what the kernels use."""
    try:
        found = tuple(int(part) for part in version("nki").split(".")[:2])
        return found >= OLDEST and importlib.util.find_spec("nki.isa") is not None
    except (PackageNotFoundError, ModuleNotFoundError, ValueError):
        return False


def __getattr__(name: str) -> Any:
    """``nki``, ``nisa`` and ``nl``, imported when a kernel asks for them."""
    path = {"nki": "nki", "nisa": "nki.isa", "nl": "nki.language"}.get(name)
    if path is None:
        raise AttributeError(name)
    if not real():
        package = __name__.rpartition(".")[0]
        path = {"nki": f"{package}.launch", "nisa": f"{package}.isa", "nl": f"{package}.language"}[name]
    return importlib.import_module(path)
