"""When to stop sampling: the interval is narrow enough, or time or samples have run out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from perwatt.timing.effective import Samples
from perwatt.timing.statistics import SMALL_N_EFF, Estimate, estimate

FIRST_LOOK = 10
LOOK_GROWTH = 1.25  # 1.1 would save a tenth of the samples, and 0.3 points of coverage (1.2 for AR(1) of rho 0.9)


class StopReason(Enum):
    """Why sampling stopped; each has its sentence."""

    TARGET = "target", "The interval of the median is within the target."
    TIME = "time", "The time for the case ran out before the interval was within the target."
    SAMPLES = "samples", "The largest number of samples was reached before the interval was within the target."

    def __init__(self, code: str, sentence: str) -> None:
        self.code = code
        self.sentence = sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """The end of sampling.

    Attributes:
        reason: Why.
        estimate: The median and interval of all samples.
    """

    reason: StopReason
    estimate: Estimate

    @property
    def text(self) -> str:
        """What column `stop_reason` holds: the reason, and the effective number of samples where it is under 20."""
        if self.estimate.n_eff >= SMALL_N_EFF:
            return self.reason.code
        return f"{self.reason.code} (n_eff {math.floor(self.estimate.n_eff)})"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoppingRule:
    """Stop once the 95 % interval of the median is within `target_ci` of it, on its longer side.

    Stopping at a moment when the interval happens to be narrow makes it cover less often than it says. Against that
    stand few looks (see :meth:`decide`) and the margins of :func:`perwatt.timing.statistics.estimate`; asking for 8
    effective samples besides was tried and gained nothing.

    Coverage of the true median at the stop, in 10,000 trials of up to 400 samples for each of `target_ci` 0.005, 0.02,
    0.05 and `min_samples` 10, 30; the least of the six: lognormal (sigma 0.01, 0.1, 0.5) 95.7 %; two modes 5 % or 30 %
    apart, 70/30 98.6 % and 55/45 95.7 %; AR(1) of rho 0.3 96.5 %, 0.5 96.2 %, 0.7 95.7 %. Against the interval of one
    who knows the distribution and its memory they are 1.05 to 1.3 times as wide from some 100 samples on, 1.4 at 30
    independent ones, 2 to 3 near 10; more where 30 samples cannot tell in which of two modes the median lies.

    What it does not see is memory longer than the series, or hidden under white noise: AR(1) of rho 0.9 is covered
    91.5 to 93.7 % with `min_samples` 10, and noise that is half white, half AR(1) of 0.9, 83.6 to 97.3 %. Restarts see
    that (:func:`perwatt.timing.statistics.pooled`). Fewer `min_samples` than 10 were not tried.

    Attributes:
        target_ci: Largest half-width of the interval over the median.
        min_samples: Fewest samples before the target counts.
        max_samples: Most samples.
        max_time_s: Most seconds; whatever there is then is enough.
    """

    target_ci: float = 0.005
    min_samples: int = 30
    max_samples: int = 10_000
    max_time_s: float

    def __post_init__(self) -> None:
        if not self.target_ci > 0.0 or not self.max_time_s > 0.0:
            raise ValueError(f"found target_ci {self.target_ci} and max_time_s {self.max_time_s}, expected above 0")
        if not 1 <= self.min_samples <= self.max_samples:
            raise ValueError(f"found {self.min_samples} to {self.max_samples} samples, expected 1 or more, in order")

    def decide(self, samples: Samples, elapsed_s: float, *, before: int | None = None) -> Stop | None:
        """Whether to stop here.

        The target is looked at only when the number of samples reaches `min_samples` or passes one of 10, 13, 17, 22,
        28, ... (a quarter more each). Where a block of samples jumps over such a number, the samples up to the last one
        passed are judged, as they would have been one by one.

        Args:
            samples: All samples so far, in order, in seconds.
            elapsed_s: Seconds since sampling began.
            before: How many samples the call before had; between two looks the call then costs nothing.

        Returns:
            The stop with the estimate of all samples, or None to go on; None too while there is no sample.

        Raises:
            ValueError: If a sample is not finite.
        """
        n = len(samples)
        if n and (n >= self.max_samples or elapsed_s >= self.max_time_s):
            return self._out(samples)
        look = self._last_look(n)
        if n < self.min_samples or (before is not None and look <= before):
            return None
        judged = estimate(samples[:look])
        if not self._met(judged):
            return None
        return Stop(reason=StopReason.TARGET, estimate=judged if look == n else estimate(samples))

    def _out(self, samples: Samples) -> Stop:
        """The stop at a limit, which is a last look at the target."""
        last = estimate(samples)
        if last.n >= self.min_samples and self._met(last):
            return Stop(reason=StopReason.TARGET, estimate=last)
        limit = StopReason.SAMPLES if last.n >= self.max_samples else StopReason.TIME
        return Stop(reason=limit, estimate=last)

    def _met(self, found: Estimate) -> bool:
        return found.n >= FIRST_LOOK and found.rel_half_width <= self.target_ci

    def _last_look(self, n: int) -> int:
        """The largest number of samples, up to n, at which the target is looked at."""
        look, step = self.min_samples, FIRST_LOOK
        while step <= n:
            look = max(look, step)
            step = math.ceil(step * LOOK_GROWTH)
        return look
