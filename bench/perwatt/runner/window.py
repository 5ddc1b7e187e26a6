"""One window: a worker loads the device, and this process, which does not compute, reads sensors meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perwatt.power.base import Probe
from perwatt.power.clock import Clock
from perwatt.power.plan import Plan
from perwatt.power.trace import Trace
from perwatt.power.watch import Watch
from perwatt.results.schema import Status
from perwatt.runner.supervisor import Worker, WorkerLost

Tell = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class Window:
    """What one window gave.

    Attributes:
        marks: monotonic seconds and iterations that were done by then; none where the load did not come to its end.
        ended: why the load ended early; empty where it did not.
        others: share of the device that other processes used meanwhile; None where nobody knows.
        faults: of the device meanwhile, by name; see :class:`perwatt.timing.load.Load`.
        clocks: the monotonic and the wall clock at one moment.
        traces: of the sensors, in the order of their probes.
        failed: why there is no load; empty where there is one.
    """

    marks: list[list[float]] = field(default_factory=list)
    ended: str = ""
    others: float | None = None
    faults: dict[str, Any] = field(default_factory=dict)
    clocks: list[float] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)
    failed: str = ""

    @property
    def trouble(self) -> str:
        """Why it says nothing of energy; empty where nothing is known against it."""
        return self.failed or self.ended or next((trace.lost for trace in self.traces if trace.lost), "")


def take(
    worker: Worker, request: Mapping[str, Any], probes: Sequence[Probe], plan: Plan, clock: Clock, tell: Tell,
    timeout_s: float,
) -> Window:  # fmt: skip
    """Have a worker load the device and read sensors meanwhile, with some quiet before and after.

    Args:
        worker: that is up; where it is lost, the window has failed and the worker has to be discharged.
        request: what it is asked, with ``window_s``.
        probes: sensors, open.
        plan: quiet times, and when a window begins.
        clock: of the host.
        tell: told of phases.
        timeout_s: seconds that all of it may take.

    Raises:
        WorkerLost: the worker died, hung or raised an error; what the sensors said is of no use then.
    """
    found, watch = Window(), Watch(probes, clock)
    try:
        for event in worker.ask(request, timeout_s):
            match event["event"]:
                case "window":
                    tell({"event": "phase", "impl": event["impl"], "phase": "window"})
                    clock.sleep(plan.wait_s(clock.unix() + plan.quiet_s))
                    watch.start()
                    clock.sleep(plan.quiet_s)
                case "load":
                    clock.sleep(plan.quiet_s)
                    found.marks, found.ended, found.others = event["marks"], event["ended"], event["others"]
                    found.faults = event.get("faults", {})
                    found.clocks = [clock.monotonic(), clock.unix()]
                case "failed":
                    raise WorkerLost(Status(event["status"]), event["error"])
                case _:
                    tell(event)
    finally:
        found.traces = watch.stop()
    return found


def rest(probes: Sequence[Probe], plan: Plan, clock: Clock) -> tuple[float, float, list[Trace]]:
    """Read sensors while nothing runs: when the look began, when it ended, and what they said."""
    clock.sleep(plan.wait_s(clock.unix() + plan.quiet_s))
    watch = Watch(probes, clock)
    watch.start()
    try:
        clock.sleep(plan.quiet_s)
        start = clock.monotonic()
        clock.sleep(plan.idle_s)
        end = clock.monotonic()
        clock.sleep(plan.quiet_s)
    finally:
        traces = watch.stop()
    return start, end, traces
