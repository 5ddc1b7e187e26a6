"""Sensors, facts and traces of a known power, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from perwatt.power.base import Facts, Found, Lost, Probe, Reading, Sensor, Target, Use
from perwatt.power.trace import Trace

EPOCH = 1_760_000_000.0
Value = Callable[[float], float]


def facts(kind: str = "samples", **changes: Any) -> Facts:
    """What a sensor of one channel says of itself."""
    usual: dict[str, Any] = {
        "counter": {"source": "counter", "quantity": "J", "update_s": 0.1, "poll_s": 0.05, "resolution": 0.001},
        "samples": {"source": "sampled", "quantity": "W", "update_s": 0.1, "poll_s": 0.05, "resolution": 0.01},
        "buckets": {"source": "none", "quantity": "%", "update_s": 60.0, "poll_s": 1.0, "resolution": 0.01},
    }[kind]
    head = {"sensor": "fake", "scope": "gpu_board", "kind": kind, "channels": ("chip",), "window_s": 10.0}
    return Facts(**(head | usual | changes))


def trace(said: Facts, watts: Value | float, start: float, end: float) -> Trace:
    """What a perfect sensor of this power, or percentage, says from ``start`` to ``end`` on every channel."""
    level = watts if callable(watts) else lambda at: float(watts)
    found, joules = Trace(facts=said), 1000.0
    steps = round((end - start) / said.poll_s)
    for step in range(steps + 1):
        at = start + step * said.poll_s
        if said.kind == "buckets":
            reading = _bucket(said, level, at)
        else:
            reading = Reading(values=(joules if said.kind == "counter" else level(at),) * len(said.channels))
        found.add(at, at, EPOCH + at, reading)
        joules += level(at) * said.poll_s
    return found


def _bucket(said: Facts, level: Value, at: float) -> Reading:
    """The last whole bucket of the wall clock."""
    number = (EPOCH + at) // said.update_s
    middle = (number - 0.5) * said.update_s - EPOCH
    each = (level(middle),) * len(said.channels)
    return Reading(values=each, lows=each, highs=each, stamp=number * said.update_s)


class PaperProbe(Probe):
    """A probe that says what it is told to; an exception is raised."""

    def __init__(self, said: Facts, values: Callable[[], Any]) -> None:
        self.facts, self.values = said, values
        self.closed = 0

    def read(self) -> Reading | None:
        if isinstance(found := self.values(), Exception):
            raise found
        return found  # type: ignore[no-any-return]

    def close(self) -> None:
        self.closed += 1


class PaperSensor(Sensor):
    """A sensor that is what it is told to be; ``opens`` are its probes in turn, the last one for ever."""

    def __init__(
        self, name: str, priority: int = 0, *, use: Use = "chips", state: Any = "readable", detail: str = "there",
        remedy: str = "", opens: Iterable[Probe | Lost] = (),
    ) -> None:  # fmt: skip
        self.name, self.priority = name, priority  # type: ignore[misc]
        self._use, self._found = use, Found(state=state, detail=detail, remedy=remedy)
        self.opens, self.opened = list(opens), 0

    def use(self, target: Target) -> Use:
        return self._use

    def detect(self, target: Target) -> Found:
        return self._found

    def open(self, target: Target) -> Probe:
        self.opened += 1
        found = self.opens.pop(0) if len(self.opens) > 1 else self.opens[0]
        if isinstance(found, Lost):
            raise found
        return found
