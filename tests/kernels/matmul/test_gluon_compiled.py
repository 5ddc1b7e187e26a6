"""What the compiler makes of the product in Gluon for a Hopper: it runs anywhere, its programs do not."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("triton.experimental.gluon")
from support.absent_gpu import lines_of
from support.gluon_compiled import SHARED

pytestmark = pytest.mark.slow


def test_candidates_are_products_that_nothing_waits_for_without_need() -> None:
    lines = lines_of("support.gluon_compiled", 90)
    found = [json.loads(line) for line in lines]
    assert {one["kind"] for one in found} == {"half", "fp8", "fp8_exact"}
    assert {one["tile"].endswith("-turns") for one in found if one["kind"] == "half"} == {False, True}
    for one in found:
        assert one["shared"] <= SHARED, one
        assert all(unit.startswith("m64n256k" if "x256x" in one["tile"] else "m64n128k") for unit in one["units"]), one
        assert one["units"], one
        assert one["copies"] >= 2, one
        assert one["leaving"] == 8, one  # four quarters of each group's results
        assert one["in_flight"] == ([0] if one["kind"] == "fp8_exact" else [0, 1]), one
        assert {24, 240} <= set(one["registers"]), one
        assert (one["spilled"], one["serialized"], one["warnings"]) == (0, False, []), one
