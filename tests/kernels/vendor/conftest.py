"""Libraries of tests/fakes/vendor, put on the search path for one test, and a GPU that computes on the CPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.vendor import gpu

FAKES = Path(__file__).parents[2] / "fakes" / "vendor"
PACKAGES = ("flash_attn", "flash_attn_interface", "transformer_engine", "torchao")
Installed = Callable[..., Any]


def forget() -> None:
    """Let packages be found anew."""
    for name in list(sys.modules):
        if name.split(".")[0] in PACKAGES:
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    """Installs distributions by their folders on a GPU of a capability; gives what imports their modules."""

    def install(*folders: str, capability: tuple[int, int] = (9, 0)) -> Callable[[str], Any]:
        forget()
        monkeypatch.setattr(gpu, "CAPABILITY", capability)
        for folder in folders:
            monkeypatch.syspath_prepend(str(FAKES / folder))
        return importlib.import_module

    yield install
    forget()
