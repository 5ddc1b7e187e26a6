"""Libraries of tests/fakes/vendor, put on the search path for one test, and a GPU that computes on the CPU."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.vendor import gpu
from support.vendor import FAKES, forget

Installed = Callable[..., Any]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Installed]:
    """Installs distributions by their folders on a GPU of a capability; gives what imports their modules."""

    def install(*folders: str, capability: tuple[int, int] = (9, 0)) -> Callable[[str], Any]:
        forget()
        monkeypatch.setattr(gpu, "CAPABILITY", capability)
        site = tmp_path / "-".join(("site", *folders))  # one for all, as pip has it
        for folder in folders:
            shutil.copytree(FAKES / folder, site, dirs_exist_ok=True)
        monkeypatch.syspath_prepend(str(site))
        return importlib.import_module

    yield install
    forget()
