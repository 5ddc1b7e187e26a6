"""neuron-monitor, which cannot say anything about power: what it calls utilization is time, not watts.

It is listed so that who asks for it is told so. Busy time must not stand in for power: a core that waits for memory is
as busy as one that multiplies.
"""

from __future__ import annotations

import shutil

from perwatt.power.base import Found, Lost, Probe, Sensor, Target, Use

NO_POWER = "its reports have no field of power (utilization of a core is a share of time)"
REMEDY = "use neuron-live or neuron-minutes, or an outside meter"


class NeuronMonitor(Sensor):
    """See the module."""

    name = "neuron-monitor"
    priority = -1

    def use(self, target: Target) -> Use:
        """Nothing, unless it is asked for, and then it says why not."""
        return "asked" if target.backend.startswith("neuron") else "never"

    def detect(self, target: Target) -> Found:
        """Absent, whether the tool is installed or not."""
        here = "installed, but" if shutil.which("neuron-monitor") else "not installed, and"
        return Found(state="absent", detail=f"{here} {NO_POWER}", remedy=REMEDY)

    def open(self, target: Target) -> Probe:
        """Fails."""
        raise Lost(f"{self.name}: {NO_POWER}; {REMEDY}")


SENSOR = NeuronMonitor()
