"""Fixtures for tests of every kind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def perwatt(tmp_path: Path) -> Perwatt:
    """``perwatt`` with these arguments in a process of its own, in an empty folder; output as text."""

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "perwatt", *map(str, arguments)],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tensors of tests gain nothing from threads, which lose much when the machine is busy."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
