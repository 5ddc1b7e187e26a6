"""From percentages of a maximum that nobody publishes to watts: through a calibration, or by a named assumption.

``background + pct / 100 x (maximum - background)`` is itself an assumption of either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perwatt.errors import InputError
from perwatt.hardware import chips
from perwatt.hardware.reader import build
from perwatt.hardware.sheet import Watts as SheetWatts
from perwatt.power import calibration
from perwatt.power.base import Facts
from perwatt.power.calibration_file import Calibration
from perwatt.power.measured import Measured, Unusable


@dataclass(frozen=True, kw_only=True, slots=True)
class Watts:
    """Joules that percentages stand for.

    Attributes:
        total, lo, hi: joules of the span and their 95 % interval.
        mean: power in W.
        evidence, source, assumption, scope, note: columns of the row.
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
    scope: str = "package"
    note: str = ""


def rule(facts: Facts) -> str:
    """How percentages of dies make up the chip's: ``larger``, ``mean`` or ``one``."""
    if facts.dies > 1:
        return "larger"
    return "mean" if facts.kind == "samples" and any("die" in name for name in facts.channels) else "one"


def _calibrated(fitted: Calibration, facts: Facts, found: Measured, chip: str, count: int) -> Watts:
    """Watts by a calibration, which is of the mean percentage of these chips."""
    scale = 1.0 / found.seconds / count
    try:
        calibration.require(fitted, chip=chip, chips=count, die_rule=rule(facts), file=fitted.id)
        seen = calibration.watts(fitted, found.total * scale, found.lo * scale, found.hi * scale)
    except (InputError, ValueError) as error:
        raise Unusable(str(error)) from None
    note = f"by calibration {fitted.id}" + (", whose points do not lie on its line" if fitted.misfit else "")
    return Watts(
        total=seen.mean * found.seconds, lo=seen.lo * found.seconds, hi=seen.hi * found.seconds, mean=seen.mean,
        evidence="measured", source="relative_calibrated", rel_sys=seen.rel_sys, scope=fitted.scope, note=note,
    )  # fmt: skip


def watts(facts: Facts, found: Measured, chip: str, count: int, settings: Mapping[str, Any]) -> Watts | None:
    """Joules of percent-seconds; None where nothing says what they are.

    Args:
        facts: of the sensor.
        found: percent x seconds, summed over the chips.
        chip: name of their sheet.
        count: their number.
        settings: ``assumption`` as in :class:`perwatt.power.settings.Settings`, ``calibration`` as its file has it.

    Raises:
        Unusable: the calibration has no watts for it, or is of something else.
    """
    if settings.get("calibration"):
        return _calibrated(build(Calibration, settings["calibration"]), facts, found, chip, count)
    wanted, sheet = settings.get("assumption"), chips.known(chip)
    if sheet is None or wanted == "none":
        return None
    known = [
        one for one in sheet.watts if one.kind == "assumption" and (one.id == wanted or (not wanted and one.default))
    ]
    if not known:
        return None
    each = known[0].value / 100.0
    lowest = found.lo / facts.dies
    note = f"{known[0].value:g} W a chip stand for 100 %, by assumption, and the background for nothing"
    rel_sys, band = _band(known[0])
    note += band
    if rule(facts) == "larger":
        note += f"; the percentage is the larger die's, so the chip's is between 1/{facts.dies} of it and all"
    return Watts(
        total=found.total * each, lo=lowest * each, hi=found.hi * each, mean=found.mean * each,
        evidence="modeled", source="relative_assumed", assumption=known[0].id, rel_sys=rel_sys, note=note,
    )  # fmt: skip


def _band(assumed: SheetWatts) -> tuple[float | None, str]:
    """What the sheet leaves open of an assumption: its larger side, relative, and both ends in words.

    It is a gain: the same in every window, and gone from the ratio of two runs under one assumption. So it is stated
    beside the interval, which holds what the trace leaves open, and not in it.
    """
    if assumed.low is None or assumed.high is None:
        return None, ""
    sides = assumed.low / assumed.value, assumed.high / assumed.value
    watts, joules = f"{assumed.low:g} to {assumed.high:g} W", f"{sides[0]:.2f} to {sides[1]:.2f} times these joules"
    text = f" (the sheet allows {watts}, {joules})"
    return max(1.0 - sides[0], sides[1] - 1.0), text
