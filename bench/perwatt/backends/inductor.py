"""Inductor, the compiler behind ``torch.compile`` on CPUs and NVIDIA GPUs: compiling, forgetting, counting."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from typing import Any

CACHES = {"TORCHINDUCTOR_CACHE_DIR": "perwatt-inductor-", "TRITON_CACHE_DIR": "perwatt-triton-"}
"""Variables that name a cache folder, looked up at every compilation, and how ours begin."""


def compiled(function: Callable[..., Any], mode: str | None = None) -> Callable[..., Any]:
    """A function compiled with static shapes. Inductor is loaded here: loading is not compiling."""
    import torch
    import torch._inductor.compile_fx

    return torch.compile(function, dynamic=False, mode=mode)


def empty_cache() -> None:
    """New folders, so that the next compilation is a cold one and the user's own cache is left alone."""
    for variable, prefix in CACHES.items():
        folder = tempfile.mkdtemp(prefix=prefix)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ[variable] = folder


def forget() -> None:
    """Drop Dynamo's code from the process; files stay."""
    import torch

    torch.compiler.reset()


def counts() -> dict[str, int]:
    """Compilations and graph breaks of this process so far."""
    if "torch._dynamo.utils" not in sys.modules:
        return {"compilations": 0, "graph_breaks": 0}
    counters = sys.modules["torch._dynamo.utils"].counters
    return {
        "compilations": int(counters["stats"]["unique_graphs"]),
        "graph_breaks": int(sum(counters["graph_break"].values())),
    }
