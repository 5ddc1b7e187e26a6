"""What the journal says so far, as objects: the one place where events are understood.

Events, in the order they come: ``run`` (what was asked for, on what), ``env`` (the environment; another one if the run
is resumed under another commit), ``case`` (facts of a case, before the first word about it), ``part`` (one impl of one
case in one process), ``skipped`` (not begun, and why), ``sensors`` (what energy is read from, or why it is not),
``idle`` (readings of the device at rest), ``window`` (an energy window: marks of the load, readings), ``meter`` (what
an outside meter said of the windows), ``left`` (a process has ended: its failed executions, where a device counts them
only then), ``end``. Each has ``t_s``, the seconds the run has taken so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from perwatt.backends.base import Backend
from perwatt.results.schema import SCHEMA_VERSION, Status
from perwatt.runner.journal import Event
from perwatt.runner.part import Part
from perwatt.spec import work
from perwatt.spec.case import Case

Key = tuple[str, str]  # identity of a case, name of an impl


@dataclass(slots=True)
class Ledger:
    """State of a run.

    Attributes:
        run: the ``run`` event; empty before it.
        env: the latest ``env`` event; empty before it.
        cases: ``case`` events by identity, in the order of the suite.
        parts: parts by case and impl, in the order they came.
        envs: the ``env`` event in force when the first part of a case and impl came.
        skipped: reasons by case and impl, as long as no part came after.
        sensors: the latest ``sensors`` event; empty before it.
        idles: ``idle`` events, in their order.
        windows: the ``window`` event of a case and impl; once an outside meter was read its trace is the first,
            ``metered`` is true, and ``unmetered`` why it says nothing.
        meter: the ``meter`` event; empty before it.
        late: failed executions, counted when the process had ended, that may be those of a case and impl.
        spent_s: seconds the run has taken, those before a resume included.
        ended: whether the run came to its end.
    """

    run: Event = field(default_factory=dict)
    env: Event = field(default_factory=dict)
    cases: dict[str, Event] = field(default_factory=dict)
    parts: dict[Key, list[Part]] = field(default_factory=dict)
    envs: dict[Key, Event] = field(default_factory=dict)
    skipped: dict[Key, str] = field(default_factory=dict)
    sensors: Event = field(default_factory=dict)
    idles: list[Event] = field(default_factory=list)
    windows: dict[Key, Event] = field(default_factory=dict)
    meter: Event = field(default_factory=dict)
    late: dict[Key, int] = field(default_factory=dict)
    spent_s: float = 0.0
    ended: bool = False
    _unsettled: list[Key] = field(default_factory=list)

    @classmethod
    def of(cls, events: Iterable[Event]) -> Ledger:
        """The state after all of these events."""
        ledger = cls()
        for event in events:
            ledger.apply(event)
        return ledger

    def apply(self, event: Event) -> None:
        """Take in one event; kinds from a newer writer are passed over."""
        self.spent_s = event.get("t_s", self.spent_s)
        match event["event"]:
            case "run":
                self.run = event
            case "env":
                self.env = event
            case "case":
                self.cases.setdefault(event["case"], event)
            case "part":
                self._add(Part.from_message(event["part"]))
            case "skipped":
                self.skipped[event["case"], event["impl"]] = event["reason"]
            case "sensors":
                self.sensors = event
            case "idle":
                self.idles.append(event)
            case "window":
                self.windows[event["case"], event["impl"]] = event
                self._unsettled.append((event["case"], event["impl"]))
            case "meter":
                self._metered(event)
            case "left":
                self._blame(event["errors"])
        self.ended = event["event"] == "end"

    def _add(self, part: Part) -> None:
        key = part.case, part.impl
        self.parts.setdefault(key, []).append(part)
        self.envs.setdefault(key, self.env)
        self.skipped.pop(key, None)
        if part.samples:
            self._unsettled.append(key)

    def _blame(self, errors: int) -> None:
        """Which execution of a process failed nobody knows: all that it measured is in doubt."""
        for key in dict.fromkeys(self._unsettled) if errors else ():
            self.late[key] = self.late.get(key, 0) + errors
        self._unsettled.clear()

    def _metered(self, event: Event) -> None:
        """What the outside meter saw of each window takes the first place among its traces, once."""
        self.meter = event
        for one in event["windows"]:
            key = one["case"], one["impl"]
            window = self.windows[key]
            own = window["traces"][1:] if window.get("metered") else window["traces"]
            found = {"traces": [one["trace"], *own], "shift_s": event["offset_u95"], "unmetered": one["reason"]}
            self.windows[key] = window | found | {"metered": True}

    def outcomes(self) -> list[Key]:
        """Case and impl of all that has an outcome, in the order of the suite: each is a row."""
        keys = [(name, impl) for name, case in self.cases.items() for impl in case["impls"]]
        return [key for key in keys if key in self.parts or key in self.skipped]

    def wants(self, case: str, impl: str, process: int) -> bool:
        """Whether a sweep still has to visit: not what it did in this process, nor what failed in any."""
        parts = self.parts.get((case, impl), [])
        return all(part.process != process and part.status == Status.OK for part in parts)

    def rounds(self, case: str, impl: str, process: int) -> int:
        """Number of the next round in a process."""
        return 1 + max((p.round for p in self.parts.get((case, impl), []) if p.process == process), default=-1)


def run_event(
    run_id: str, started_at: str, suite: dict[str, str], options: dict[str, Any], backend: Backend,
    autocast: Mapping[str, str] | None = None,
) -> Event:  # fmt: skip
    """The first event: what was asked for, and on what device; ``autocast`` is its op list where a case needs it."""
    return {
        "event": "run",
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "started_at": started_at,
        "suite": suite,
        "options": options,
        "backend": backend.name,
        "asynchronous": backend.asynchronous,
        "device": asdict(backend.describe()),
        "autocast": dict(autocast or {}),
    }


def _layout(case: Case, world: int) -> str:
    """The parallel layout of a row: on one device none, unless it is not the usual one: then it is a row of its own."""
    usual = case.workload.layouts[:1]
    return "" if case.placement == "device" or (world == 1 and case.parallel in usual) else case.parallel


def case_event(case: Case, world: int = 1) -> Event:
    """Facts of a case that its rows need, so that they can be made from the journal alone.

    Args:
        case: of the suite.
        world: devices that work on it, each with a process of its own.
    """
    counts = case.workload.counts(case.params, case.pass_, case.precision)
    sharded = case.mode == "shard" and not case.workload.undivided(case, world)
    return {
        "event": "case",
        "case": case.identity,
        "name": case.name,
        "workload": case.workload.name,
        "work": work.canonical(case.work),
        "task_key": work.task_key(case.work),
        "pass": case.pass_,
        "precision": case.precision.name,
        "compute": case.precision.compute,
        "placement": case.placement,
        "mode": case.mode,
        "parallel": _layout(case, world),
        "world": world,
        "cache": case.cache,
        "arrangement": case.workload.arrangement(case.params, world if sharded else 1),
        "target_ci": case.measure.target_ci,
        "impls": {name: case.workload.impls()[name].impl_class for name in case.impls},
        **asdict(counts),
    }
