"""Reasons as people want them: one line for those that differ in numbers alone, the most frequent first."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

NUMBER = re.compile(r"(?<![\w.#/+-])(\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w.+])")  # not a part of a name or version


def grouped(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    """Reasons with their counts, by count; numbers in which reasons of a group differ become a range.

    ``needs 27 GB, has 25 GB`` and ``needs 63 GB, has 25 GB`` become ``needs 27 to 63 GB, has 25 GB``.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for reason in reasons:
        groups[NUMBER.sub("#", reason)].append(reason)
    found = [(_ranged(group), sum(reasons[reason] for reason in group)) for group in groups.values()]
    return sorted(found, key=lambda item: -item[1])


def _ranged(group: list[str]) -> str:
    """The reasons of a group as one."""
    numbers = iter([sorted(set(column), key=float) for column in zip(*map(NUMBER.findall, group), strict=True)])

    def shown(_: re.Match[str]) -> str:
        lo, *others = next(numbers)
        return f"{lo} to {others[-1]}" if others else lo

    return NUMBER.sub(shown, group[0])
