"""Energy windows of a run: after the timing, each a steady load of one row while its sensors are read.

Sensors are read in this process, which does not compute (docs/energy.md). What they said is journaled as it is; joules
are worked out from that when rows are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Protocol

from perwatt.backends.base import Backend
from perwatt.errors import InputError, MissingHardware
from perwatt.hardware import prices
from perwatt.hardware.reader import plain
from perwatt.power import calibration_file, choice, plan, refusals, selftest
from perwatt.power.base import Lost, Probe, Sensor, opened
from perwatt.power.plan import Plan
from perwatt.power.settings import Settings
from perwatt.power.trace import Trace
from perwatt.results.schema import Status
from perwatt.runner import journal, metering, preflight, window
from perwatt.runner.crew import Crew
from perwatt.runner.journal import Event
from perwatt.runner.recorder import Recorder
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
        self._probes: list[Probe] = []
        self._sensors: list[Sensor] = []
        self._plan: Plan | None = None
        self._asked = asked

    # Before the sweep

    def begin(self) -> float:
        """Choose and open sensors, look at the idle device, tell what is to come. Seconds that all windows will take.

        Raises:
            InputError: the sensor that was asked for is none.
            MissingHardware: it is not here.
        """
        if (self._settings.mode or self._asked.mode) == "off":
            self._note({"mode": "off"}, "energy is off")
            return 0.0
        self._choose()
        if self._plan is None:
            return 0.0
        rows = sum(len(case.impls) for case in self._cases.values())
        count = plan.most(rows, len(self._cases), self._plan.mode) - len(self._ledger.windows)
        total = self._plan.total_s(max(0, count))
        if count > 0:
            self._tell(count, total)
            self._idle("start")
        return total

    def _choose(self) -> None:
        target, settings = self._target, self._settings
        if settings.power_w is not None:
            self._note({"mode": "declared", "watts": settings.power_w, "scope": settings.scope})
            return
        if settings.sensor == choice.SHEET:
            self._sheet()
            return
        if settings.trace is not None and not settings.sensor:  # the meter is all that is needed, and reads itself
            self._plan = plan.outside(self._asked, settings.mode)
            self._note({"mode": self._plan.mode})
            return
        driver = self._backend.describe().driver
        found = choice.choose(target, settings.sensor, lambda sensor: selftest.failed(sensor, driver))
        if found.chips is None:
            self._note({"mode": "none"}, found.reason)
            return
        for sensor in filter(None, (found.chips, found.host)):
            try:
                self._probes.append(opened(sensor, target))
                self._sensors.append(sensor)
            except Lost as error:
                if sensor is found.chips:
                    self._note({"mode": "none"}, str(error))
                    return
        own = self._probes[0].facts
        self._plan = plan.plan(self._asked, settings.mode, own)
        refusals.fits(settings, own, target)
        facts = [asdict(probe.facts) for probe in self._probes]
        self._note({"mode": self._plan.mode, "facts": facts})

    def _sheet(self) -> None:
        """The data sheet's watts, an upper bound of what the chip draws."""
        rated = refusals.rated(self._target.chip)
        reason = f"the sheet's {rated.value:g} W ({rated.id}), an upper bound"
        self._note({"mode": choice.SHEET, "watts": rated.value, "scope": "package"}, reason)

    def _note(self, event: Event, reason: str = "") -> None:
        """Journal what is read, or why nothing is; a resumed run says it again where it differs."""
        facts = {"chip": self._target.chip, "chips": self._target.count, "settings": _kept(self._settings)}
        event = journal.as_read({"event": "sensors", "reason": reason, **facts, **event})
        before = {name: value for name, value in self._ledger.sensors.items() if name != "t_s"}
        if event != before:
            self._recorder.add(event)

    def _tell(self, count: int, total_s: float) -> None:
        assert self._plan
        by = " and ".join(sensor.name for sensor in self._sensors) or "an outside meter"
        windows = f"{count} windows" if count > 1 else "1 window"
        text = f"energy: up to {windows} of {self._plan.window_s:.0f} s by {by}, about {_span(total_s)} more"
        self._screen.note(text + _dollars(self._backend, total_s))

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
        begun = self._clock.monotonic()
        for case, impl in picked:
            if (case, impl) in self._ledger.windows:
                continue
            again_s = self._ledger.parts[case, impl][-1].elapsed_s  # to open and compile it takes no longer
            if left_s is not None and self._clock.monotonic() - begun + self._plan.each_s + again_s > left_s:
                self._screen.note("energy: no time is left of the budget for more windows")
                break
            try:
                self._window(self._cases[case], impl)
            except MissingHardware as error:  # the rows have their times; a resumed run tries again
                self._screen.note(f"energy: no more windows: {error}")
                break
            self._recorder.project()

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
        for probe in self._probes:
            probe.close()
        if self._settings.trace is not None:
            metering.read(self._recorder, self._settings, self._target.count, self._screen.note)

    def _set_aside(self, keys: Sequence[tuple[str, str]]) -> None:
        """Say of rows of another placement why they have no window."""
        reason = f"sensors of this run look at the chips of {self._world} devices: others tell in a run of their own"
        for case, impl in keys:
            if (case, impl) not in self._ledger.windows:
                self._keep(self._cases[case], impl, window.Window(failed=reason))

    def _window(self, case: Case, impl: str) -> None:
        """One window, journaled whatever becomes of it."""
        assert self._plan
        request = {"case": case.message(), "impl": impl, "seed": self._seed, "window_s": self._plan.window_s}
        seconds = case.measure.timeout_s + self._plan.each_s + self._plan.align_s
        try:
            worker = self._crew.worker(self._world)
            found = window.take(worker, request, self._probes, self._plan, self._clock, self._screen.event, seconds)
        except WorkerLost as lost:
            self._crew.discharge()
            found = window.Window(failed=" ".join(lost.reason.split()))
        self._keep(case, impl, found)
        self._reopen(found.traces)
        if found.trouble:
            self._screen.note(f"no energy of {case.name}, {impl}: {found.trouble}")

    def _keep(self, case: Case, impl: str, found: window.Window) -> None:
        assert self._plan
        self._recorder.add({
            "event": "window", "case": case.identity, "impl": impl, "ramp_s": self._plan.ramp_s, "marks": found.marks,
            "ended": found.ended, "others": found.others, "faults": found.faults, "failed": found.failed,
            "clocks": found.clocks, "traces": [trace.message() for trace in found.traces],
        })  # fmt: skip

    def _reopen(self, traces: Sequence[Trace]) -> None:
        """A sensor that was lost may be there again for the next window."""
        for at, trace in enumerate(traces):
            if trace.lost:
                self._probes[at].close()
                with suppress(Lost):
                    self._probes[at] = opened(self._sensors[at], self._target)

    def _idle(self, when: str) -> None:
        """Power of the device that does nothing, by the definition of the run."""
        if any(event["when"] == when for event in self._ledger.idles) or not self._probes:
            return
        assert self._plan
        if self._settings.idle == "no_context":
            self._crew.relieve()
        else:
            self._crew.worker(self._world)
        self._clock.sleep(SETTLE_S[self._settings.idle])
        start, end, traces = window.rest(self._probes, self._plan, self._clock)
        self._recorder.add({
            "event": "idle", "when": when, "definition": self._settings.idle, "start": start, "end": end,
            "traces": [trace.message() for trace in traces],
        })  # fmt: skip


def _kept(settings: Settings) -> dict[str, Any]:
    """Settings that decide what watts mean; a calibration as its file has it."""
    calibration = plain(calibration_file.read(settings.calibration)) if settings.calibration else None
    return {"assumption": settings.assumption, "calibration": calibration, "idle": settings.idle}


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
