"""What an interval is made of, and what would make an unclear verdict clear."""

from __future__ import annotations

import math
from dataclasses import dataclass

from perwatt.analysis.levels import FEW, Allowance
from perwatt.analysis.verdict import Ratio

SAMPLES = "more samples or runs"
BORDER = 0.1  # of the region's half-width; what lies nearer to its end than this takes too much to tell apart


@dataclass(frozen=True, kw_only=True, slots=True)
class Widths:
    """Parts of the half-width of a ratio, as logarithms.

    Attributes:
        below: what was measured, and the allowance for processes, below the ratio.
        above: the same above.
        process: the allowance for processes in them.
        chip: the allowance for chips.
        gain: systematic uncertainty of power sensors.
        bound_below: what is not random and lowers the ratio by that much at most.
        bound_above: the same that raises it.
        allowance: what processes and chips are allowed.
    """

    below: float
    above: float
    process: float
    chip: float
    gain: float
    bound_below: float
    bound_above: float
    allowance: Allowance

    @property
    def low(self) -> float:
        """The half-width below."""
        return math.hypot(self.below, self.chip, self.gain) + self.bound_below

    @property
    def high(self) -> float:
        """The half-width above."""
        return math.hypot(self.above, self.chip, self.gain) + self.bound_above

    @property
    def sampled(self) -> float:
        """The part that samples and runs make, without allowances."""
        return math.sqrt(max(max(self.below, self.above) ** 2 - self.process**2, 0.0))

    def named(self) -> list[str]:
        """Allowances that the interval holds."""
        names = []
        if self.process:
            names.append(f"allows {100 * self.allowance.process:g} % between processes")
        if self.chip:
            names.append(f"allows {100 * self.allowance.chip:g} % between chips")
        if self.gain:
            names.append(f"allows {100 * self.gain:.2g} % for power sensors")
        if self.bound_below or self.bound_above:
            names.append("the percentage is the larger die's, so the chip's is between half of it and all")
        return names


def settle(found: Ratio, region: float, widths: Widths) -> str:
    """What would settle an unclear verdict: the parts of the interval without which it would be narrow enough."""
    if found.lo is None:
        return f"no interval without {FEW} runs a side"
    if math.isinf(widths.low) or math.isinf(widths.high):
        return "an end of the interval is open: more samples would close it"
    need = _needed(found, region)
    if need < BORDER * region:
        return f"the ratio lies at the border of 1 ± {100 * region:.2g} %"
    if widths.bound_below + widths.bound_above > need:
        return "the percentage of each die would settle it"
    return _without(need, widths)


def _without(need: float, widths: Widths) -> str:
    """The widest parts, as many as it takes until the others alone are narrower than needed."""
    parts = {
        SAMPLES: widths.sampled,
        f"{FEW} runs a side": widths.process,
        f"{FEW} chips a side": widths.chip,
        "calibrated power sensors": widths.gain,
    }
    left = sorted(parts, key=lambda name: -parts[name])
    named = [left.pop(0)]
    while left and math.hypot(*(parts[name] for name in left)) >= need:
        named.append(left.pop(0))
    if named == [SAMPLES]:
        rest = math.hypot(*(parts[name] for name in left))
        times = (parts[SAMPLES] / math.sqrt(need**2 - rest**2)) ** 2
        return f"about {_digits(times)} times the samples or runs would settle it"
    return f"{' and '.join(named)} would settle it"


def _needed(found: Ratio, region: float) -> float:
    """The largest half-width at which the same ratio would have a verdict, as logarithm."""
    log, low, high = math.log(found.ratio), math.log1p(-region), math.log1p(region)
    return max(log - high, low - log, min(log - low, high - log))


def _digits(value: float) -> str:
    """Two digits, without an exponent."""
    return f"{value:.2g}" if value < 100 else f"{round(value, 1 - math.floor(math.log10(value))):.0f}"
