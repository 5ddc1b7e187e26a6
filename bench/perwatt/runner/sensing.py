"""What the energy of a run is read from: sensors that are chosen and opened, an outside meter, or stated watts.

Sensors are read in this process, which does not compute (docs/energy.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perwatt.backends.base import Backend
from perwatt.hardware.reader import plain
from perwatt.power import calibration_file, choice, plan, refusals, selftest
from perwatt.power.base import Lost, Probe, Sensor, Target, opened
from perwatt.power.plan import Plan
from perwatt.power.settings import Settings
from perwatt.power.trace import Trace
from perwatt.runner import journal
from perwatt.runner.journal import Event
from perwatt.runner.recorder import Recorder
from perwatt.spec.suite import Energy


class Sensing:
    """Sensors of a run, open from :meth:`begin` to :meth:`close`.

    Args:
        backend: the device.
        target: its chips that work.
        asked: by the suite.
        settings: the user's.
        recorder: where events go.
        tell: told of sensors that do not work.

    Attributes:
        probes: what is read: of the chips, then of their host; none where watts are stated or an outside meter reads.
    """

    def __init__(
        self, backend: Backend, target: Target, asked: Energy, settings: Settings, recorder: Recorder,
        tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._backend, self._target, self._asked, self._settings = backend, target, asked, settings
        self._recorder, self._tell = recorder, tell
        self._sensors: list[Sensor] = []
        self.probes: list[Probe] = []

    @property
    def names(self) -> str:
        """What is read, in words."""
        return " and ".join(sensor.name for sensor in self._sensors) or "an outside meter"

    def begin(self) -> Plan | None:
        """Choose and open sensors, and journal what they are.

        Returns:
            The windows that they need; None where there are to be none.

        Raises:
            InputError: the sensor that was asked for is none.
            MissingHardware: it is not here.
        """
        settings = self._settings
        if (settings.mode or self._asked.mode) == "off":
            return self._noted({"mode": "off"}, "energy is off")
        if settings.power_w is not None:
            return self._noted({"mode": "declared", "watts": settings.power_w, "scope": settings.scope})
        if settings.sensor == choice.SHEET:
            rated = refusals.rated(self._target.chip)
            reason = f"the sheet's {rated.value:g} W ({rated.id}), an upper bound"
            return self._noted({"mode": choice.SHEET, "watts": rated.value, "scope": "package"}, reason)
        if settings.trace is not None and not settings.sensor:  # the meter is all that is needed, and reads itself
            windows = plan.outside(self._asked, settings.mode)
            return self._noted({"mode": windows.mode}, windows=windows)
        return self._open()

    def _open(self) -> Plan | None:
        target, settings, driver = self._target, self._settings, self._backend.describe().driver
        found = choice.choose(target, settings.sensor, lambda sensor: selftest.failed(sensor, driver))
        for line in found.failed:
            self._tell(f"energy: passed over {line}")
        if found.chips is None:
            return self._noted({"mode": "none"}, found.reason)
        for sensor in filter(None, (found.chips, found.host)):
            try:
                self.probes.append(opened(sensor, target))
                self._sensors.append(sensor)
            except Lost as error:
                if sensor is found.chips:
                    return self._noted({"mode": "none"}, str(error))
        own = self.probes[0].facts
        refusals.fits(settings, own, target)
        windows = plan.plan(self._asked, settings.mode, own)
        facts = [asdict(probe.facts) for probe in self.probes]
        return self._noted({"mode": windows.mode, "facts": facts}, windows=windows)

    def _noted(self, event: Event, reason: str = "", windows: Plan | None = None) -> Plan | None:
        """Journal what is read, or why nothing is; a resumed run says it again where it differs."""
        facts = {"chip": self._target.chip, "chips": self._target.count, "settings": _kept(self._settings)}
        event = journal.as_read({"event": "sensors", "reason": reason, **facts, **event})
        before = {name: value for name, value in self._recorder.ledger.sensors.items() if name != "t_s"}
        if event != before:
            self._recorder.add(event)
        return windows

    def reopen(self, traces: Sequence[Trace]) -> None:
        """A sensor that was lost may be there again for the next window."""
        for at, trace in enumerate(traces):
            if trace.lost:
                self.probes[at].close()
                with suppress(Lost):
                    self.probes[at] = opened(self._sensors[at], self._target)

    def close(self) -> None:
        """Let the sensors go."""
        for probe in self.probes:
            probe.close()


def _kept(settings: Settings) -> dict[str, Any]:
    """Settings that decide what watts mean; a calibration as its file has it, of a trace its name."""
    calibration = plain(calibration_file.read(settings.calibration)) if settings.calibration else None
    trace = Path(settings.trace).name if settings.trace else None
    return {"assumption": settings.assumption, "calibration": calibration, "idle": settings.idle, "trace": trace}
