"""The C++ part, loaded from where it was built (``FAKE_NEURON_LIBRARY``), or built now."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch  # noqa: F401 - the library is linked against it

from fakes.neuron import build

C: Any = None


def load(devices: int, memory_bytes: int) -> None:
    """Load it, with so many devices of so many bytes."""
    global C
    path = os.environ.get("FAKE_NEURON_LIBRARY") or build.library()
    spec = importlib.util.spec_from_file_location(build.NAME, path)
    assert spec is not None
    assert spec.loader is not None
    C = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(C)
    C.configure(devices, memory_bytes)
