"""Trials of a sensor on a load whose energy is known, and what they say of the stated intervals.

A setting is a sensor and a kind of load; its replays draw anew whatever nobody could know: phases, noise, when readings
come, and the level of the load by a percent. Trials are settings x replays.

Coverage is the share of all trials whose interval holds the truth. The ideal width of a setting is the narrowest
interval of one width, anywhere around the estimates, that holds the truth in 95 % of the replays. Only who knows the
setting can state it: the noise, how the load moves, when updates come. It also knows the estimate's bias, if there is
one. So it is a lower bound for an honest interval around the same estimates, which has to be stated from one trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from perwatt.power.evaluate import measured
from perwatt.power.measured import Measured, Unusable
from perwatt.power.trace import Trace

ASKED = 0.935
WIDEST = 3.0
REPLAYS = 40
TRIALS = 1000
FEWER = 200

Truth = Callable[[float, float], float]
Replay = Callable[[np.random.Generator], tuple[Trace, float, float, Truth]]
Setting = Callable[[np.random.Generator], Replay]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What trials showed.

    Attributes:
        coverage: share of those not refused whose interval holds the truth.
        ratios: median width over the ideal one, for each setting.
        refused: share of trials that were refused, and the reasons.
        reasons: of those.
    """

    coverage: float
    ratios: list[float]
    refused: float
    reasons: set[str]

    @property
    def ratio(self) -> float:
        """Median over settings."""
        return float(np.median(self.ratios))


def judge(setting: Setting, trials: int, seed: int) -> Judged:
    """Trials of settings drawn from one kind."""
    rng = np.random.default_rng(seed)
    held: list[bool] = []
    ratios: list[float] = []
    reasons: list[str] = []
    for _ in range(trials // REPLAYS):
        replay, found = setting(rng), []
        for _ in range(REPLAYS):
            trace, start, end, truth = replay(rng)
            try:
                one = measured(trace, start, end)
            except Unusable as error:
                reasons.append(str(error))
                continue
            assert start <= one.start < one.end <= end
            found.append((one, one.total - truth(one.start, one.end)))
        held += [one.lo <= one.total - error <= one.hi for one, error in found]
        if len(found) == REPLAYS:
            ratios.append(_ratio(found))
    return Judged(
        coverage=float(np.mean(held)) if held else 1.0, ratios=ratios, refused=len(reasons) / trials,
        reasons=set(reasons),
    )  # fmt: skip


def _ratio(found: list[tuple[Measured, float]]) -> float:
    errors = np.sort([error for _, error in found])
    most = round(0.95 * len(errors))
    ideal = (errors[most - 1 :] - errors[: len(errors) - most + 1]).min()
    return float(np.median([one.hi - one.lo for one, _ in found]) / ideal)
