"""Independent errors of an energy, added up to the half-width of a 95 % interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

NORMAL = 1.959964  # of a 95 % interval, in standard deviations


@dataclass(slots=True)
class Errors:
    """A sum of errors that know nothing of each other.

    Attributes:
        variance: of the sum.
        bound: largest that it can be; infinite where one of them has no bound.
    """

    variance: float = 0.0
    bound: float = 0.0

    def within(self, half: float) -> None:
        """Add one that lies anywhere within plus or minus ``half``."""
        self.variance += half * half / 3.0
        self.bound += abs(half)

    def normal(self, variance: float) -> None:
        """Add one without a bound."""
        if variance > 0.0:
            self.variance += variance
            self.bound = math.inf

    def add(self, other: Errors) -> None:
        """Add those of an independent quantity."""
        self.variance += other.variance
        self.bound += other.bound

    @property
    def half(self) -> float:
        """Half-width of the sum's 95 % interval. A few uniform errors never need more than their bound."""
        return min(NORMAL * math.sqrt(self.variance), self.bound)
