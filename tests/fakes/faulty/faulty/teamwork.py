"""A workload of somebody else's for several devices: its impls do one sleep, and on one rank each fails in its way.

``meets`` and what follows it take part in a collective of the work, as a sharded job does.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel

from perwatt.workloads.base import Accuracy, Counts, Impl, Session, Workload


def hangs() -> None:
    while True:
        time.sleep(60)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leaves() -> None:
    print("teamwork: leaving", file=sys.stderr)
    sys.exit(0)


def raises() -> None:
    raise ValueError("teamwork\nin two lines")


def orphans() -> None:
    """Leaves a child behind in a session of its own."""
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
    os._exit(3)


def waits() -> None:
    import torch.distributed as dist

    dist.recv(__import__("torch").zeros(1), src=0)


FAULTS: dict[str, Callable[[], None]] = {
    "hangs": hangs, "killed": killed, "leaves": leaves, "raises": raises, "orphans": orphans, "absent": hangs,
    "elsewhere": waits, "forsaken": raises,
}  # fmt: skip
MEETING = ("meets", "absent", "elsewhere", "forsaken")
USUAL = ("good", "slow", "inaccurate")


class Params(BaseModel):
    """Which rank fails, and after how many runs."""

    n: int = 0
    sleep_s: float = 0.004
    rank: int = 1
    after: int = 0


class Work(Session):
    """Sleeps, then meets the other ranks where its impl does."""

    def __init__(self, params: Params, impl: str, backend: Any) -> None:
        self.params, self.impl, self.backend, self.runs = params, impl, backend, 0
        self.chosen = backend.rank == params.rank

    def run(self, slot: int) -> object:
        import torch.distributed as dist

        self.runs += 1
        if self.chosen and self.impl in FAULTS and self.runs > self.params.after:
            FAULTS[self.impl]()
        time.sleep(self.params.sleep_s * (2 if self.chosen and self.impl == "slow" else 1))
        if self.impl in MEETING:
            dist.barrier()
        return None

    def check(self, generation: int) -> Accuracy:
        wrong = self.chosen and self.impl == "inaccurate"
        return Accuracy(rel_err=0.5 if wrong else 0.1, bound=0.2)

    def path(self) -> str:
        return f"rank {self.backend.rank} of {self.backend.world}"


class Teamwork(Workload):
    """See the module."""

    name = "teamwork"
    summary = "sleeps on several devices, and fails on one on demand"
    Params: ClassVar[type[BaseModel]] = Params
    passes = ("fwd",)
    default_impls = ("good",)
    cached = False
    layouts = ("together", "apart")

    def label(self, params: Any) -> str:
        return f"n={params.n}"

    def counts(self, params: Any, pass_: str, precision: Any) -> Counts:
        return Counts(flops=1e6, bytes=1e3, tokens=10)

    def memory(self, case: Any, devices: int = 1) -> float:
        return 0.0

    def impls(self) -> Mapping[str, Impl]:
        names = (*USUAL, "meets", *FAULTS)
        return {name: Impl(name=name, impl_class="eager", build=lambda: None) for name in names}

    def open(self, case: Any, impl: Impl, backend: Any, seed: int) -> Session:
        return Work(case.params, impl.name, backend)


WORKLOAD = Teamwork()
