"""What an interval is made of, and what would make an unclear verdict clear."""

from __future__ import annotations

import math
from dataclasses import dataclass

from perwatt.analysis.levels import FEW, Allowance
from perwatt.analysis.verdict import Ratio

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
        runs: processes of the baseline and of the candidate.
        allowance: what processes and chips are allowed.
    """

    below: float
    above: float
    process: float
    chip: float
    gain: float
    bound_below: float
    bound_above: float
    runs: tuple[int, int]
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
    """What would settle an unclear verdict: the widest part of the interval, unless the ratio lies on the border."""
    if found.lo is None or found.hi is None:
        return f"no interval; {FEW} runs a side would give one"
    parts = {
        "more samples or runs": widths.sampled,
        f"{FEW} runs a side": widths.process,
        f"{FEW} chips a side": widths.chip,
        "calibrated power sensors": widths.gain,
    }
    name, widest = max(parts.items(), key=lambda item: item[1])
    need = _needed(found, region)
    if widths.bound_below + widths.bound_above > widest:
        return "the percentage of each die would settle it"
    rest = math.sqrt(max(max(widths.low, widths.high) ** 2 - widest**2, 0.0))
    if need < BORDER * region:
        return f"the ratio lies at the border of 1 ± {100 * region:.2g} %"
    if name == "more samples or runs" and need > rest:
        times = (widest / math.sqrt(need**2 - rest**2)) ** 2
        return f"about {times:.2g} times the samples or runs would settle it"
    also = "" if need > rest else ", with more samples or runs beside"
    return f"{name} would settle it{also}"


def _needed(found: Ratio, region: float) -> float:
    """The largest half-width at which the same ratio would have a verdict, as logarithm."""
    log, low, high = math.log(found.ratio), math.log1p(-region) if region else 0.0, math.log1p(region)
    return max(log - high, low - log, min(log - low, high - log))
