"""neuronx-cc as the device calls it: programs on disk by key, a lock file while one is made, failures."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from . import _extension, _faults, _runtime

SECONDS = float(os.environ.get("FAKE_NEURON_COMPILE_S", "0"))  # that a graph takes
FAILED = "neuronx-cc failed with exit code 70: [NCC_EVRF051] the program is not supported on this target"
LATCHED = "an earlier compilation failed: " + FAILED
LNC_FLAGS = ("-lnc", "--lnc", "--logical-nc-config")


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Of one graph that was compiled."""

    graph_id: str
    graph_name: str
    graph_node_count: int
    torch_neuronx_compile_us: float


compiled: list[Metrics] = []


def eager(key: str) -> None:
    """Make the program of one operation at one shape."""
    if "eager_compile_failure" in _faults.FAULTS and "mm" in key.split()[0]:
        raise RuntimeError(FAILED)
    if "float8_e4m3fn" in key.lower() and _runtime.machine().kind == "Trainium2":
        raise RuntimeError(FAILED)
    _program(key, 0.0)


def graph(text: str, nodes: int) -> None:
    """Make the program of a graph, and note it.

    Raises:
        RuntimeError: the compiler fails; then the next operation, whichever it is, fails as well.
    """
    if "compile_failure" in _faults.FAULTS:
        _extension.C.latch(LATCHED)
        raise RuntimeError(FAILED)
    begun = time.perf_counter()
    key = _program(text, SECONDS)
    microseconds = 1e6 * (time.perf_counter() - begun)
    name = f"model_default_{len(compiled)}"
    compiled.append(
        Metrics(graph_id=key, graph_name=name, graph_node_count=nodes, torch_neuronx_compile_us=microseconds)
    )


def _program(text: str, seconds: float) -> str:
    flags = os.environ.get("NEURON_CC_FLAGS", "")
    _check_lnc(flags)
    key = hashlib.sha256(f"{_runtime.lnc()} {flags} {text}".encode()).hexdigest()
    neff = _folder("TORCH_NEURONX_NEFF_CACHE_DIR", "/tmp/neff_cache") / key[:2] / key[2:4] / f"{key}.neff"
    disabled = ("TORCH_NEURONX_DISABLE_NEFF_CACHE", "TORCH_NEURONX_NEFF_DISABLE_CACHE")
    if neff.exists() and not any(os.environ.get(name) == "1" for name in disabled):
        return key
    with _locked(_folder("TORCH_NEURONX_NEFF_LOCAL_CACHE_DIR", "/tmp/local_cache") / f"{key}.lock"):
        if not neff.exists():
            time.sleep(seconds)
            neff.parent.mkdir(parents=True, exist_ok=True)
            unfinished = neff.with_suffix(f".{os.getpid()}")
            unfinished.write_text(text)
            unfinished.rename(neff)
    return key


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """A file that is there meanwhile. One that a killed compiler left behind stalls whoever comes next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            path.open("x").close()
            break
        except FileExistsError:
            time.sleep(0.02)
    try:
        yield
    finally:
        path.unlink()


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default)


def _check_lnc(flags: str) -> None:
    words = flags.replace("=", " ").split()
    for name, value in pairwise(words):
        if name in LNC_FLAGS and value != str(_runtime.lnc()):
            raise RuntimeError(f"a program for LNC {value} does not load: the runtime has LNC {_runtime.lnc()}")
