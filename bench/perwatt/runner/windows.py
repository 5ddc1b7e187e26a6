"""Energy windows of a run: after the timing, each a steady load of one row while its sensors are read.

Sensors are read in this process, which does not compute (docs/energy.md). What they said is journaled as it is; joules
are worked out from that when rows are made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from perwatt.backends.base import Backend
from perwatt.errors import InputError, MissingHardware
from perwatt.hardware import prices
from perwatt.power import plan
from perwatt.power.plan import Plan
from perwatt.power.settings import Settings
from perwatt.results.schema import Status
from perwatt.runner import metering, preflight, window
from perwatt.runner.budget import Budget
from perwatt.runner.crew import Crew
from perwatt.runner.recorder import Recorder
from perwatt.runner.sensing import Sensing
from perwatt.runner.supervisor import WorkerLost
from perwatt.spec.case import Case
from perwatt.spec.suite import Energy

SETTLE_S = {"no_context": 0.0, "context_30s": 30.0, "after_60s": 60.0}
"""Seconds before a look at the idle device: since the context was opened, or since the last load."""


class Screen(Protocol):
    """What a person is told about energy."""

    def note(self, text: str) -> None:
        """One line."""

    def event(self, event: dict[str, Any]) -> None:
        """A phase."""


class Windows:
    """The energy part of a run, or what is left of it.

    Args:
        cases: of the suite.
        backend: the device.
        asked: by the suite.
        settings: the user's.
        seed: of the input data.
        crew: who has the worker.
        recorder: where events go.
        screen: where a person is told.
    """

    def __init__(
        self, cases: Sequence[Case], backend: Backend, asked: Energy, settings: Settings, seed: int, crew: Crew,
        recorder: Recorder, screen: Screen,
    ) -> None:  # fmt: skip
        self._cases = {case.identity: case for case in cases}
        self._backend, self._settings, self._seed = backend, settings, seed
        self._crew, self._recorder, self._ledger, self._screen = crew, recorder, recorder.ledger, screen
        self._clock = backend.clock
        self._world = preflight.most(cases, backend)
        self._target = backend.target(self._world)
        self._sensing = Sensing(backend, self._target, asked, settings, recorder, screen.note)
        self._plan: Plan | None = None
        self._budget, self._begun, self._looked = Budget(math.inf), 0.0, False

    # Before the sweep

    def begin(self) -> float:
        """Open sensors, look at the idle device, tell what is to come. Seconds that all windows will take.

        Raises:
            InputError: the sensor that was asked for is none.
            MissingHardware: it is not here.
        """
        self._plan = self._sensing.begin()
        if self._plan is None:
            return 0.0
        rows = sum(len(case.impls) for case in self._cases.values())
        count = plan.most(rows, len(self._cases), self._plan.mode) - len(self._ledger.windows)
        total = self._plan.total_s(max(0, count))
        if count > 0:
            self._tell(count, total)
            self._idle("start")
        return total

    def _tell(self, count: int, total_s: float) -> None:
        assert self._plan
        windows = f"{count} windows" if count > 1 else "1 window"
        text = f"energy: up to {windows} of {self._plan.window_s:.0f} s by {self._sensing.names}"
        self._screen.note(f"{text}, about {_span(total_s)} more{_dollars(self._backend, total_s)}")

    # After the sweep

    def run(self, left_s: float | None) -> None:
        """A window for every row that gets one, as long as there is time.

        Args:
            left_s: seconds that are left of a budget; None without one.
        """
        if self._plan is None:
            return
        rows = self._recorder.rows()
        keys = {id(row): key for key, row in rows.items()}
        self._set_aside([key for key, row in rows.items() if row.status == Status.OK and row.world_size != self._world])
        able = [row for row in rows.values() if row.world_size == self._world]
        picked = [keys[id(row)] for row in plan.chosen(able, self._plan.mode)]
        self._budget, self._begun = Budget(math.inf if left_s is None else left_s), self._clock.monotonic()
        for case, impl in picked:
            if (case, impl) in self._ledger.windows:
                continue
            again_s = self._ledger.parts[case, impl][-1].elapsed_s  # to open and compile it takes no longer
            if self._budget.over(self._spent_s() + self._plan.each_s + again_s):
                self._screen.note("energy: no time is left of the budget for more windows")
                break
            try:
                self._window(self._cases[case], impl)
                self._look()
            except MissingHardware as error:  # the rows have their times; a resumed run tries again
                self._screen.note(f"energy: no more windows: {error}")
                break
            self._recorder.project()

    def _spent_s(self) -> float:
        return self._clock.monotonic() - self._begun

    def _look(self) -> None:
        """Say after the first window that what an outside meter has written so far is no trace."""
        if self._settings.trace is not None and not self._looked:
            metering.look(self._settings, self._target.count, self._screen.note)
        self._looked = True

    def finish(self) -> None:
        """Look at the idle device once more, let the sensors go, read the outside meter.

        Raises:
            InputError: the meter's trace cannot be used; all rows keep their times.
        """
        if self._plan and any(event["marks"] for event in self._ledger.windows.values()):
            try:
                self._idle("end")
            except MissingHardware as error:
                self._screen.note(f"energy: no look at the idle device at the end: {error}")
        self._sensing.close()
        if self._settings.trace is not None:
            metering.read(self._recorder, self._settings, self._target.count, self._screen.note)

    def _set_aside(self, keys: Sequence[tuple[str, str]]) -> None:
        """Say of rows of another placement why they have no window."""
        reason = f"sensors of this run look at the chips of {self._world} devices: others tell in a run of their own"
        for case, impl in keys:
            if (case, impl) not in self._ledger.windows:
                self._keep(self._cases[case], impl, window.Window(failed=reason))

    def _window(self, case: Case, impl: str) -> None:
        """One window, journaled whatever becomes of it, but for one that the end of the budget cuts off."""
        assert self._plan
        request = {"case": case.message(), "impl": impl, "seed": self._seed, "window_s": self._plan.window_s}
        probes, tell = self._sensing.probes, self._screen.event
        seconds = case.measure.timeout_s + self._plan.each_s + self._plan.align_s
        try:
            worker = self._crew.worker(self._world)
            limit_s = self._budget.limit(self._spent_s(), seconds)
            found = window.take(worker, request, probes, self._plan, self._clock, tell, limit_s)
        except WorkerLost as lost:
            self._crew.discharge()
            if lost.status == Status.TIMEOUT and self._budget.over(self._spent_s()):
                self._screen.note(f"no energy of {case.name}, {impl}: the budget was spent before its window was over")
                return
            found = window.Window(failed=" ".join(lost.reason.split()))
        self._keep(case, impl, found)
        self._sensing.reopen(found.traces)
        if found.trouble:
            self._screen.note(f"no energy of {case.name}, {impl}: {found.trouble}")

    def _keep(self, case: Case, impl: str, found: window.Window) -> None:
        assert self._plan
        self._recorder.add({
            "event": "window", "case": case.identity, "impl": impl, "ramp_s": self._plan.ramp_s, "marks": found.marks,
            "ended": found.ended, "others": found.others, "faults": found.faults, "failed": found.failed,
            "clocks": found.clocks, "traces": [trace.message() for trace in found.traces],
        })  # fmt: skip

    def _idle(self, when: str) -> None:
        """Power of the device that does nothing, by the definition of the run."""
        if any(event["when"] == when for event in self._ledger.idles) or not self._sensing.probes:
            return
        assert self._plan
        if self._settings.idle == "no_context":
            self._crew.relieve()
        else:
            self._crew.worker(self._world)
        self._clock.sleep(SETTLE_S[self._settings.idle])
        start, end, traces = window.rest(self._sensing.probes, self._plan, self._clock)
        self._recorder.add({
            "event": "idle", "when": when, "definition": self._settings.idle, "start": start, "end": end,
            "traces": [trace.message() for trace in traces],
        })  # fmt: skip


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _dollars(backend: Backend, seconds: float) -> str:
    """What the instance costs meanwhile, where its type and price are known."""
    instance = backend.describe().instance_type
    if not instance:
        return ""
    try:
        hourly = prices.price(instance)
    except InputError:
        return ""
    return f", some ${hourly.value * seconds / 3600:.2f} by the price of {instance} on {hourly.date}"
