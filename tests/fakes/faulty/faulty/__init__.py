"""A workload of somebody else's: its impls do one sleep, and each fails in its own way.

With ``FAULTY_LOG`` set, every session writes a line into that file when it is opened.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, Field

from perwatt.workloads.base import Accuracy, Counts, Impl, Session, Workload


def hang() -> None:
    while True:
        time.sleep(60)


def segfault() -> None:
    ctypes.string_at(0)


def leave() -> None:
    print("faulty: leaving", file=sys.stderr)
    sys.exit(7)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def raises() -> None:
    raise ValueError("faulty\nin two lines")


def greedy() -> None:
    import torch

    torch.empty(1 << 50, dtype=torch.uint8)


def forgetful() -> None:
    raise MemoryError


def orphan() -> None:
    """A child that holds on to everything it inherited, and a parent that is gone."""
    if os.fork() == 0:
        time.sleep(600)
    os._exit(3)


FAULTS: dict[str, Callable[[], None]] = {
    "hang": hang, "segfault": segfault, "leave": leave, "killed": killed, "raises": raises, "greedy": greedy,
    "forgetful": forgetful, "orphan": orphan,
}  # fmt: skip
GOOD = ("good", "good2", "nan")


class Params(BaseModel):
    """When a fault happens: at the first run, or in the samples, after many."""

    n: int = Field(default=0, description="tells cases apart")
    sleep_s: float = 0.001
    after: int = Field(default=0, description="runs that go well before the fault")
    size_gb: float = 0.0


class Sleep(Session):
    """Sleeps, and after some runs does what its impl is for."""

    def __init__(self, params: Params, impl: str) -> None:
        self.params, self.impl, self.runs = params, impl, 0

    def run(self, slot: int) -> object:
        self.runs += 1
        if self.runs > self.params.after and self.impl in FAULTS:
            FAULTS[self.impl]()
        time.sleep(self.params.sleep_s)
        return None

    def check(self, generation: int) -> Accuracy:
        return Accuracy(rel_err=float("nan") if self.impl == "nan" else 0.0, bound=1.0)

    def path(self) -> str:
        return "sleep"


class Faulty(Workload):
    """See the module."""

    name = "faulty"
    summary = "sleeps, and fails on demand"
    Params: ClassVar[type[BaseModel]] = Params
    passes = ("fwd",)
    default_impls = ("good",)
    cached = False

    def label(self, params: Any) -> str:
        return f"n={params.n}"

    def counts(self, params: Any, pass_: str, precision: Any) -> Counts:
        return Counts(flops=1e6, tokens=10)

    def memory(self, case: Any, devices: int = 1) -> float:
        return float(case.params.size_gb * 1e9)

    def impls(self) -> Mapping[str, Impl]:
        refuses = Impl(name="refuses", impl_class="kernel", build=lambda: None, unsupported=lambda *_: "not on Sundays")
        usual = {name: Impl(name=name, impl_class="eager", build=lambda: None) for name in (*GOOD, *FAULTS)}
        return usual | {"refuses": refuses}

    def open(self, case: Any, impl: Impl, backend: Any, seed: int) -> Session:
        if log := os.environ.get("FAULTY_LOG"):
            with open(log, "a") as file:
                file.write(f"{case.identity} {impl.name}\n")
        return Sleep(case.params, impl.name)


WORKLOAD = Faulty()
