"""Two ways of timing or doing the same work, in ABBA order inside one process, as a ratio with an interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from perwatt.timing.statistics import Estimate, estimate

PAIRS = 30


def compare(benchmark: Any, a: Callable[[], float], b: Callable[[], float], pairs: int = PAIRS) -> Estimate:
    """The ratio a / b over ``pairs`` rounds of a, b, b, a, each of which returns its own seconds.

    The round is what pytest-benchmark times; the ratio and its 95 % interval go into its extra information.
    """
    logs: list[float] = []

    def round_() -> None:
        a1, b1, b2, a2 = a(), b(), b(), a()
        logs.append(math.log((a1 + a2) / (b1 + b2)))

    benchmark.pedantic(round_, rounds=pairs, iterations=1, warmup_rounds=2)
    found = estimate([math.exp(log) for log in logs[2:]])
    benchmark.extra_info.update(ratio=found.median, lo=found.lo, hi=found.hi, pairs=pairs)
    print(f"\nratio {found.median:.4f} [{found.lo:.4f}, {found.hi:.4f}] over {pairs} ABBA rounds")
    return found
