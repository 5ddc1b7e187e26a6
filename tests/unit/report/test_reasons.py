"""Reasons that differ in numbers alone are one."""

from __future__ import annotations

from perwatt.report.reasons import grouped

MEMORY = "needs at least {} GB of memory, the device has 25.3 GB"


def test_numbers_become_a_range_and_the_most_frequent_is_first():
    reasons = {"no graphs": 4, MEMORY.format("36.6"): 1, MEMORY.format("2.56e+05"): 2, MEMORY.format("9"): 2}
    assert grouped(reasons) == [(MEMORY.format("9 to 2.56e+05"), 5), ("no graphs", 4)]


def test_names_and_versions_are_no_numbers():
    reasons = {
        "no fp8 in torch 2.13.0+cpu": 1,
        "no fp16 in torch 2.12.0+cpu": 1,
        "see pytorch#19": 1,
        "see pytorch#2": 1,
    }
    assert sorted(grouped(reasons)) == sorted(reasons.items())


def test_what_is_the_same_stays_as_it_is():
    assert grouped({"8 rows, groups of 3": 7}) == [("8 rows, groups of 3", 7)]
    assert grouped({}) == []
