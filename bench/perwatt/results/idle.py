"""Power of the chips at rest, from a run's looks at them before the first load and after the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from perwatt.power import evaluate
from perwatt.power.measured import Unusable
from perwatt.power.trace import Trace
from perwatt.runner.journal import Event


@dataclass(frozen=True, kw_only=True, slots=True)
class Idle:
    """Power of the chips at rest.

    Attributes:
        watts: mean of the looks that were taken.
        definition: what rest means.
        drift: by how much the last look differs from the first, relative; None with fewer than two.
    """

    watts: float
    definition: str
    drift: float | None


def idle(events: Sequence[Event], sensor: str, channels: Sequence[str] | None = None) -> Idle | None:
    """Power at rest by the looks that can be used: of one sensor, of the same chips, by one definition.

    A run that was resumed may have looked by another sensor, or by another definition; the first one holds.

    Args:
        events: the run's ``idle`` events.
        sensor: name of the one that the row's energy is by.
        channels: its chips; None for those of its first look.
    """
    watts, definition = [], ""
    for event in events:
        if not event["traces"]:
            continue
        trace = Trace.from_message(event["traces"][0])
        channels = channels or (trace.facts.channels if trace.facts.sensor == sensor else None)
        if (trace.facts.sensor, trace.facts.channels) != (sensor, channels):
            continue
        if definition not in ("", event["definition"]):
            continue
        try:
            watts.append(evaluate.measured(trace, event["start"], event["end"]).mean)
        except Unusable:
            continue
        definition = event["definition"]
    if not watts:
        return None
    drift = abs(watts[-1] - watts[0]) / watts[0] if len(watts) > 1 and watts[0] > 0 else None
    return Idle(watts=mean(watts), definition=definition, drift=drift)
