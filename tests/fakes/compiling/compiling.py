"""A workload whose impls compile, or fail to in their own ways, and a device that keeps what was compiled.

``COMPILING_CACHE`` names the folder of that device's cache, ``COMPILING_LOG`` a file that gets a line for every call of
a timed body: the impl and the number of its process.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel

from perwatt.backends.cpu import Cpu
from perwatt.workloads.base import Accuracy, Counts, Impl, Session, Workload

LATCHED: list[str] = []  # what went wrong in this process, after which nothing compiles in it


class Params(BaseModel):
    """Size of a vector."""

    n: int


def latches() -> None:
    LATCHED.append("latches")
    raise RuntimeError("the compiler\nfailed")


def raises() -> None:
    raise ValueError("no such instruction")


FAULTS: dict[str, Callable[[], object]] = {
    "raises": raises, "latches": latches, "dies": lambda: ctypes.string_at(0), "hangs": lambda: time.sleep(600),
}  # fmt: skip


class Call(Session):
    """One call of a function of a vector."""

    def __init__(self, case: Any, impl: Impl, backend: Any) -> None:
        import torch

        self._impl, self._x = impl.name, torch.ones(case.params.n)
        self._function = self._eager if impl.impl_class == "eager" else backend.compile(self._eager)

    @staticmethod
    def _eager(x: Any) -> Any:
        return x.sin() + x.cos()

    def run(self, slot: int) -> object:
        if log := os.environ.get("COMPILING_LOG"):
            with open(log, "a") as file:
                file.write(f"{self._impl} {os.getpid()}\n")
        if self._impl in FAULTS:
            return FAULTS[self._impl]()
        if LATCHED:
            raise RuntimeError(f"an earlier compilation failed: {LATCHED}")
        return self._function(self._x)

    def check(self, generation: int) -> Accuracy:
        raise AssertionError("compiling checks nothing")

    def path(self) -> str:
        raise AssertionError("compiling looks at nothing")


class Compiling(Workload):
    """See the module."""

    name = "compiling"
    summary = "compiles, or fails to"
    Params: ClassVar[type[BaseModel]] = Params
    passes = ("fwd",)
    cached = False

    def label(self, params: Any) -> str:
        return f"n={params.n}"

    def counts(self, params: Any, pass_: str, precision: Any) -> Counts:
        return Counts()

    def memory(self, case: Any, devices: int = 1) -> float:
        return 4.0 * case.params.n

    def impls(self) -> Mapping[str, Impl]:
        graphs = {name: Impl(name=name, impl_class="graph", build=print) for name in ("torch.compile", *FAULTS)}
        refuses = Impl(name="refuses", impl_class="graph", build=print, unsupported=lambda *_: "not on Sundays")
        return {"torch": Impl(name="torch", impl_class="eager", build=print), **graphs, "refuses": refuses}

    def open(self, case: Any, impl: Impl, backend: Any, seed: int) -> Session:
        return Call(case, impl, backend)


class Keeper(Cpu):
    """A device whose compiler's cache is for ever."""

    name = "keeper"
    priority = -1
    keeps_compiled = True

    def empty_compiler_cache(self) -> None:
        """Asked for at the start only; what is there stays."""
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.environ["COMPILING_CACHE"]


WORKLOAD = Compiling()
BACKEND = Keeper()
