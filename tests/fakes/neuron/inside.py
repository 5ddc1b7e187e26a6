"""Tests that run in a process of the stand-in machine: the device changes torch for good, which no other test may see.

A module of tests asks for one such process, which runs its functions by name, one after another, and says what they
raised. ``python -m fakes.neuron.inside FILE`` is that process.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from fakes.neuron import build
from fakes.neuron.machine import Machine

INSIDE = "FAKE_NEURON_INSIDE"


def inside(test: Callable[[], None]) -> Callable[..., None]:
    """Run this test in the process of its module's machine."""
    if INSIDE in os.environ:
        return test

    @wraps(test)
    def asked(process: Process) -> None:
        process.run(test.__name__)

    asked.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("process", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    )
    return asked


class Process:
    """A process on a machine, with the functions of a file."""

    def __init__(self, machine: Machine, file: str) -> None:
        environment = {**os.environ, **machine.environment(), INSIDE: "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fakes.neuron.inside", file], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, name: str) -> None:
        """Have a function run.

        Raises:
            AssertionError: it raised something, or the process is gone.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        assert said, f"the process ended with {self._process.wait()}"
        assert json.loads(said) == "", json.loads(said)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """For :func:`inside`: import it where it is used."""
    if build.compiler() is None:
        pytest.skip("the device is built with a C++ compiler, and there is none")
    started = Process(Machine(tmp_path_factory.mktemp("neuron") / "machine"), str(request.path))
    yield started
    started.close()


def main() -> None:
    """Serve requests."""
    answers, sys.stdout = sys.stdout, sys.stderr
    path = Path(sys.argv[1])
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for line in sys.stdin:
        text = ""
        try:
            getattr(module, line.strip())()
        except BaseException:
            text = traceback.format_exc()
        answers.write(json.dumps(text) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
