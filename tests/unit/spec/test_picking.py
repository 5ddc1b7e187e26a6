"""Some cases of a suite, by name."""

from __future__ import annotations

import pytest

from perwatt.errors import InputError
from perwatt.spec import suite
from perwatt.spec.picking import picked


def names(*patterns: str) -> list[str]:
    return [case.name for case in picked(suite.load("headline"), patterns).cases]


def test_cases_by_name_and_pattern_in_the_order_of_the_suite():
    assert names("yardstick") == ["yardstick"]
    both = ["matched headline recompute=none", "matched headline recompute=full"]
    assert names("matched headline*") == both
    assert names("matched*", "yardstick") == ["yardstick", *both]
    assert len(names()) == 5


def test_a_name_that_no_case_has():
    with pytest.raises(InputError, match=r"--only: found 'yardstik', expected one of .*did you mean 'yardstick'"):
        names("yardstick", "yardstik")
