"""A device whose time is a script: every call of a timed body takes the seconds it is told, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import BaseModel

from perwatt.backends.base import Backend, Device, Health, Timing
from perwatt.spec.case import Case, Measure
from perwatt.spec.precision import Precision, policy
from perwatt.workloads.base import Accuracy, Counts, Impl, Session, Workload


class Clockwork(Backend):
    """Counts virtual seconds. ``brackets`` can be switched off, as on a device that only knows whole batches."""

    name = "clockwork"
    asynchronous = True
    brackets = True
    timing_method = "script"

    def __init__(self) -> None:
        self.now = 0.0
        self.compilations = 0
        self.forgotten = 0
        self.watching = False
        self.log: list[str] = []

    def missing(self) -> None:
        return None

    def describe(self) -> Device:
        return Device(chip="clockwork", devices_per_chip=1, memory_bytes=1e9, cache_bytes=1e6)

    def unsupported(self, precision: Precision) -> str | None:
        return None

    def start(self) -> None:
        pass

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def synchronize(self) -> None:
        pass

    def spend(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.now += seconds

    def time(self, run: Callable[[int], object], iterations: int, first: int, ring: list[Any]) -> Timing:
        start = self.now
        for i in range(first, first + iterations):
            ring[i % len(ring)] = run(i % len(ring))
        return Timing(total_s=self.now - start, enqueue_s=(self.now - start) / 2)

    def time_bracketed(
        self,
        before: Callable[[int], object],
        run: Callable[[int], object],
        iterations: int,
        first: int,
        ring: list[Any],
    ) -> Timing:
        total = 0.0
        for i in range(first, first + iterations):
            before(i % len(ring))
            start = self.now
            ring[i % len(ring)] = run(i % len(ring))
            total += self.now - start
        return Timing(total_s=total, enqueue_s=total)

    def reset_peak_memory(self) -> None:
        pass

    def peak_memory(self) -> float | None:
        return 123.0

    def compile(self, function: Callable[..., Any], *, autotune: bool = False) -> Callable[..., Any]:
        return function

    def forget_compiled(self) -> None:
        self.forgotten += 1

    def guards(self) -> dict[str, int]:
        return {"compilations": self.compilations, "graph_breaks": 0, "cpu_fallbacks": 0}

    def health(self, during: Sequence[tuple[float, float]]) -> Health:
        return Health(limiter="none")

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)

    @contextmanager
    def watched(self) -> Iterator[None]:
        self.watching = True
        self.log.append("watched")
        yield
        self.watching = False


class ScriptedSession(Session):
    """Spends ``seconds(call number)`` of the device's time in every call of its body."""

    def __init__(self, backend: Clockwork, name: str, seconds: Callable[[int], float], slots: int = 1) -> None:
        self.backend, self.name, self.seconds, self.slots = backend, name, seconds, slots
        self.calls = 0
        self.closed = False
        self.verdicts = {0: Accuracy(rel_err=1e-7, bound=1e-5), 1: Accuracy(rel_err=2e-7, bound=1e-5)}

    def run(self, slot: int) -> object:
        self.backend.log.append(self.name)
        self.backend.spend(self.seconds(self.calls))
        self.calls += 1
        return slot

    def check(self, generation: int) -> Accuracy:
        self.backend.log.append(f"{self.name} check {generation}")
        return self.verdicts[generation]

    def path(self) -> str:
        return "script"

    def close(self) -> None:
        self.closed = True


class NoParams(BaseModel):
    pass


class Scripted(Workload):
    """Opens whatever session a test has prepared for an impl."""

    name = "scripted"
    summary = "for tests"
    Params = NoParams
    passes = ("fwd",)

    def __init__(self, sessions: dict[str, Callable[[], Session]], classes: dict[str, str] | None = None) -> None:
        self.sessions, self.classes = sessions, classes or {}

    def label(self, params: Any) -> str:
        return "scripted"

    def counts(self, params: Any, pass_: str, precision: Precision) -> Counts:
        return Counts(flops=1e9)

    def memory(self, case: Case, devices: int = 1) -> float:
        return 0.0

    def impls(self) -> dict[str, Impl]:
        return {
            name: Impl(name=name, impl_class=self.classes.get(name, "eager"), build=lambda case, backend: None)
            for name in self.sessions
        }

    def open(self, case: Case, impl: Impl, backend: Backend, seed: int) -> Session:
        return self.sessions[impl.name]()


def case(workload: Scripted, **measure: Any) -> Case:
    """A case of a scripted workload."""
    return Case(
        name="scripted", workload=workload, params=NoParams(), pass_="fwd", grad=False, precision=policy("fp32"),
        distribution="normal", impls=tuple(workload.sessions), placement="device", measure=Measure(**measure),
    )  # fmt: skip
