"""What the user said about energy, beyond the suite."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from perwatt.errors import InputError, expected
from perwatt.power.base import IMPLAUSIBLE_W
from perwatt.results.schema import POWER_SCOPES

IdleDefinition = Literal["no_context", "context_30s", "after_60s"]
SCOPES = ("chip", *POWER_SCOPES)  # a chip is its package


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Options of ``perwatt run`` about energy.

    Attributes:
        mode: ``off``, ``headline`` or ``all``; None leaves it to the suite.
        sensor: name of the sensor to be read; empty leaves it to their priorities.
        idle: what idle means: no process has the device open, one has had it open for 30 s, or 60 s after a load.
        power_w: declared watts of a chip; None where nothing is declared.
        power_scope: what the declared watts or the outside meter's are of.
        assumption: id of the watts that stand for 100 % of a chip, of its sheet; ``none`` for no watts at all, None for
            the sheet's own choice.
        trace: path of an outside meter's trace.
        meter_class: accuracy of that meter in percent of its reading.
        meter_offset_s: seconds by which its clock is ahead of this host's; None to find out.
        calibration: path of a calibration of a chip's percentages.
    """

    mode: str | None = None
    sensor: str = ""
    idle: IdleDefinition = "no_context"
    power_w: float | None = None
    power_scope: str | None = None
    assumption: str | None = None
    trace: str | None = None
    meter_class: float | None = None
    meter_offset_s: float | None = None
    calibration: str | None = None

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            InputError: naming the option.
        """
        if self.idle not in get_args(IdleDefinition):
            raise InputError(expected(self.idle, get_args(IdleDefinition)), field="--idle")
        if self.power_scope is not None and self.power_scope not in SCOPES:
            raise InputError(expected(self.power_scope, SCOPES), field="--power-scope")
        if self.power_w is not None and not 0.0 < self.power_w <= IMPLAUSIBLE_W:
            raise InputError(f"found {self.power_w:g}, expected watts of a chip above 0, at most {IMPLAUSIBLE_W:g}",
                             field="--power-w")  # fmt: skip
        for option, given in (("--power-w", self.power_w), ("--power-trace", self.trace)):
            if given is not None and self.mode == "off":
                raise InputError("says where energy comes from, and --energy is off", field=option)
        if self.power_w is not None and (self.sensor or self.trace):
            raise InputError("declares what would be measured: give it, or a sensor or trace", field="--power-w")
        if self.power_scope is not None and self.power_w is None and self.trace is None:
            raise InputError("says of what --power-w or --power-trace are, and neither is given", field="--power-scope")
        if self.calibration is not None and (self.power_w is not None or (self.trace is not None and not self.sensor)):
            raise InputError("is of percentages, and none are read: leave it out", field="--power-calibration")
        self._check_meter()

    def _check_meter(self) -> None:
        if self.trace is not None and self.meter_class is None:
            raise InputError("is needed beside --power-trace: the meter's accuracy in percent of its reading",
                             field="--meter-class")  # fmt: skip
        for field, value in (("--meter-class", self.meter_class), ("--meter-offset", self.meter_offset_s)):
            if value is not None and self.trace is None:
                raise InputError("says something of a meter, and --power-trace is not given", field=field)
        if self.meter_class is not None and not 0.0 < self.meter_class <= 100.0:
            raise InputError(
                f"found {self.meter_class:g}, expected percent above 0, at most 100", field="--meter-class"
            )
        if self.meter_offset_s is not None and not math.isfinite(self.meter_offset_s):
            raise InputError(f"found {self.meter_offset_s:g}, expected seconds", field="--meter-offset")

    @property
    def scope(self) -> str:
        """Value of the row's ``power_scope`` for what the user states."""
        return "package" if self.power_scope in (None, "chip") else str(self.power_scope)
