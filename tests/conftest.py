"""Fixtures for tests of every kind."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.neuron import build
from fakes.neuron.machine import Machine

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


@pytest.fixture(autouse=True, scope="session")
def _choices_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is chosen by measurement here is not kept for the user, nor taken from what the user's runs kept."""
    patch = pytest.MonkeyPatch()
    patch.setenv("PERWATT_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def _vector_units_are_as_the_processor_says() -> Iterator[None]:
    """Inductor tries with the C++ compiler whether they are, in each new cache anew: seconds for each process."""
    patch = pytest.MonkeyPatch()
    patch.setenv("TORCHINDUCTOR_VEC_ISA_OK", "1")
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def _kernels_are_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For all tests that look at what Triton's compiler makes, by all processes of this run."""
    base = tmp_path_factory.getbasetemp()
    patch = pytest.MonkeyPatch()
    patch.setenv("TRITON_CACHE_DIR", str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "triton"))
    yield
    patch.undo()


@pytest.fixture
def at_80(tmp_path: Path) -> Callable[..., str]:
    """What ``perwatt`` with these arguments shows on a terminal of 80 columns, without colours."""

    def run(*arguments: str | Path) -> str:
        ours, theirs = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80", "TERM": "dumb"}
        command = [sys.executable, "-m", "perwatt", *map(str, arguments)]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=theirs) as process:
            os.close(theirs)
            shown = b"".join(iter(lambda: _read(ours), b""))
        os.close(ours)
        assert process.returncode == 0
        return shown.decode().replace("\r\n", "\n")

    return run


def _read(terminal: int) -> bytes:
    """The next bytes, none once whoever wrote has gone, which a terminal tells by an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tensors of tests gain nothing from threads, which lose much when the machine is busy."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def neuron_machine(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Lays out a stand-in Trainium machine: its kind, release and faults are the arguments of ``Machine``."""
    if build.compiler() is None:
        pytest.skip("the device is built with a C++ compiler, and there is none")
    made: list[Machine] = []

    def lay_out(**options: Any) -> Machine:
        made.append(Machine(tmp_path / f"machine{len(made)}", **options))
        return made[-1]

    yield lay_out
    for machine in made:
        machine.close()
