"""From percentages of a maximum that nobody publishes to watts: through a calibration, or by a named assumption.

``background + pct / 100 x (maximum - background)`` is itself an assumption of either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perwatt.hardware.chips import Chip
from perwatt.power.base import Facts
from perwatt.power.measured import Measured


@dataclass(frozen=True, kw_only=True, slots=True)
class Watts:
    """Joules that percentages stand for.

    Attributes:
        total, lo, hi: joules of the span and their 95 % interval.
        mean: power in W.
        evidence, source, assumption, note: columns of the row.
        rel_sys: relative systematic uncertainty.
    """

    total: float
    lo: float
    hi: float
    mean: float
    evidence: str
    source: str
    assumption: str | None = None
    rel_sys: float | None = None
    note: str = ""


def rule(facts: Facts) -> str:
    """How percentages of dies make up the chip's: ``larger``, ``mean`` or ``one``."""
    if facts.dies > 1:
        return "larger"
    return "mean" if facts.kind == "samples" and any("die" in name for name in facts.channels) else "one"


def watts(facts: Facts, found: Measured, chip: Chip | None, settings: Mapping[str, Any]) -> Watts | None:
    """Joules of percent-seconds; None where nothing says what they are.

    Args:
        facts: of the sensor.
        found: percent x seconds, summed over the chips.
        chip: sheet of the chip.
        settings: ``assumption`` as in :class:`perwatt.power.settings.Settings`.
    """
    wanted = settings.get("assumption")
    if chip is None or wanted == "none":
        return None
    known = [
        one for one in chip.watts if one.kind == "assumption" and (one.id == wanted or (not wanted and one.default))
    ]
    if not known:
        return None
    each = known[0].value / 100.0
    lowest = found.lo / (2.0 if rule(facts) == "larger" else 1.0)
    note = f"{known[0].value:g} W a chip stand for 100 %, by assumption, and the background for nothing"
    if rule(facts) == "larger":
        note += "; the percentage is the larger die's, so the chip's is between half of it and all"
    return Watts(total=found.total * each, lo=lowest * each, hi=found.hi * each, mean=found.mean * each,
                 evidence="modeled", source="relative_assumed", assumption=known[0].id, note=note)  # fmt: skip
