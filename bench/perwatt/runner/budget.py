"""Where the seconds of ``--budget`` go: first a fair share to every case, then to the widest intervals."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from perwatt.errors import InputError, shorten

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
GRACE_S = 30.0  # that a visit may take beyond the budget before it is ended: it was begun because it seemed to fit
LEAST_SHARE = 0.1  # of a visit's time that goes to sampling, however slow opening and warming up are


def parse(text: str, option: str = "--budget") -> float:
    """Seconds of ``90s``, ``20m`` or ``1.5h``, given for an option.

    Raises:
        InputError: it is none of these, or not above zero.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([smh])", text.strip())
    seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
    if seconds <= 0:
        raise InputError(f"found {shorten(text)}, expected a time such as 90s, 20m or 1.5h", field=option)
    return seconds


@dataclass(slots=True)
class Budget:
    """Seconds to spend, and what visits have cost beside their sampling.

    Attributes:
        total_s: the budget.
        overhead_s: seconds that visits of one impl spent on other things than samples, summed.
        visits: number of these visits.
    """

    total_s: float
    overhead_s: float = 0.0
    visits: int = 0

    def learn(self, elapsed_s: float, sampled_s: float) -> None:
        """Take in what one impl's visit took in all, and how much of it was samples."""
        self.overhead_s += max(0.0, elapsed_s - sampled_s)
        self.visits += 1

    def share(self, spent_s: float, ahead: int) -> float:
        """Seconds of sampling for the next of ``ahead`` visits of one impl; 0 if it could not be finished in time."""
        left = self.total_s - spent_s
        overhead = self.overhead_s / self.visits if self.visits else 0.0
        each = left / max(1, ahead)
        return max(each - overhead, LEAST_SHARE * each) if left > overhead else 0.0

    def limit(self, spent_s: float, timeout_s: float) -> float:
        """Seconds after which a visit that begins now is ended: its own limit, or soon after the end of the budget."""
        return min(timeout_s, max(0.0, self.total_s - spent_s) + GRACE_S)

    def over(self, spent_s: float) -> bool:
        """Whether it is spent."""
        return spent_s >= self.total_s

    def again(self, spent_s: float, overhead_s: float, wanted_s: float) -> float:
        """Seconds of sampling for one more visit that costs ``overhead_s`` besides; 0 if it could not be finished."""
        seconds = min(wanted_s, self.total_s - spent_s - overhead_s)
        return seconds if seconds > LEAST_SHARE * overhead_s else 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """How far one impl of a case is from its target.

    Attributes:
        excess: relative half-width of its interval over its target; at most 1 when it is reached.
        case, impl: what it is.
    """

    excess: float
    case: str
    impl: str


def neediest(needs: Iterable[Need]) -> Need | None:
    """The one furthest from its target, or None when all are reached."""
    return max((need for need in needs if need.excess > 1.0), key=lambda need: need.excess, default=None)
