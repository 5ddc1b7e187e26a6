"""Power of a fake NVIDIA card over time, as its driver shows it: in updates, with a counter, and with faults.

Periods, phases and the first value of the counter are not documented: tests choose them at random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import floor

import pynvml

STEP_S = 0.001  # of the integral
EPOCH = 1_760_000_000.0


@dataclass
class PowerMeter:
    """What is measured of a card. Times are the seconds of ``clock``; a fault's time is when it begins.

    Attributes:
        watts: power at a time.
        clock: the time now.
        period_s: between two updates.
        phase_s: of the first update.
        first_mj: the counter at time zero.
        value_type: of field values, which driver versions are free to choose.
        fields: whether the driver knows the fields of power.
        module_extra_w: what the rest of a GH200 module draws; the counter has it, the GPU's power does not.
        lost_at: the card falls off the bus.
        denied_at: this user may not ask any more.
        reloaded_at: the driver is loaded anew: the counter begins at zero.
        stuck_at: nothing is updated any more.
        zero_at: everything reads zero.
        field_fault: return code of every field, whose values are then garbage.
    """

    watts: Callable[[float], float] = lambda _: 300.0
    clock: Callable[[], float] = lambda: 0.0
    period_s: float = 0.1
    phase_s: float = 0.0
    first_mj: int = 0
    value_type: int = pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    fields: bool = True
    module_extra_w: float | None = None
    lost_at: float | None = None
    denied_at: float | None = None
    reloaded_at: float | None = None
    stuck_at: float | None = None
    zero_at: float | None = None
    field_fault: int = 0
    _sums: list[float] = field(default_factory=lambda: [0.0])

    def fault(self) -> int:
        """Return code of every call now."""
        if self._begun(self.lost_at):
            return int(pynvml.NVML_ERROR_GPU_IS_LOST)
        return int(pynvml.NVML_ERROR_NO_PERMISSION if self._begun(self.denied_at) else pynvml.NVML_SUCCESS)

    def energy_mj(self) -> int:
        """The counter: all energy until the last update."""
        if self._begun(self.zero_at):
            return 0
        edge = self.edge()
        total = self.joules(edge) + (self.module_extra_w or 0.0) * edge
        if self.reloaded_at is not None and edge >= self.reloaded_at:
            return floor(1000 * (total - self.joules(self.reloaded_at)))
        return self.first_mj + floor(1000 * total)

    def power_mw(self, *, average: bool) -> int:
        """Power at the last update, or averaged over the second before it."""
        if self._begun(self.zero_at):
            return 0
        edge = self.edge()
        before = max(0.0, edge - 1.0)
        watts = (self.joules(edge) - self.joules(before)) / (edge - before) if average and edge > before else None
        return round(1000 * (self.watts(edge) if watts is None else watts))

    def stamp_us(self) -> int:
        """When the last update was, microseconds since 1970."""
        return round(1e6 * (EPOCH + self.edge()))

    def edge(self) -> float:
        """Time of the last update."""
        now = self.clock() if self.stuck_at is None else min(self.clock(), self.stuck_at)
        return max(0.0, floor((now - self.phase_s) / self.period_s + 1e-9) * self.period_s + self.phase_s)

    def joules(self, until: float) -> float:
        """True energy from time zero."""
        steps = floor(until / STEP_S)
        while len(self._sums) <= steps:
            self._sums.append(self._sums[-1] + self.watts((len(self._sums) - 0.5) * STEP_S) * STEP_S)
        return self._sums[steps] + self.watts(until) * (until - steps * STEP_S)

    def _begun(self, at: float | None) -> bool:
        return at is not None and self.clock() >= at
