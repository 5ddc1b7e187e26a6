"""What meters of a whole node have in common: they measure more than its chips, and say little of themselves."""

from __future__ import annotations

from typing import Any

from perwatt.power.base import Facts, Sensor, Target, Use

UPDATE_S = 1.0  # assumed: neither DCMI nor Redfish says how often a controller measures
POLL_S = 1.0  # MLPerf's rules of power ask for a reading a second
WINDOW_S = 60.0  # and for 60 of them
GAIN = 0.05  # assumed where the meter states no accuracy
STEP_W = 1.0


class NodeSensor(Sensor):
    """A meter of the node: used where it is asked for by name, because a node is more than its chips."""

    priority = 10

    def use(self, target: Target) -> Use:
        """Nothing, unless asked for."""
        return "asked"


def node_facts(sensor: str, channel: str, **known: Any) -> Facts:
    """Facts of samples of a node's power, with assumptions for what is not known."""
    assumed = {
        "update_s": UPDATE_S, "poll_s": POLL_S, "window_s": WINDOW_S, "resolution": STEP_W, "rel_sys": GAIN,
    }  # fmt: skip
    return Facts(
        sensor=sensor, source="sampled", scope="node", quantity="W", kind="samples", channels=(channel,),
        wrap=(None,), **{**assumed, **known},
    )  # fmt: skip
