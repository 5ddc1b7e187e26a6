"""An implementation against its peers: who meets whom, ratios, means, floors."""

from __future__ import annotations

import math
from typing import Any

import pytest

from perwatt.analysis.versus import versus
from perwatt.errors import InputError
from perwatt.hardware import chips
from support import valid_rows

OTHER = {"workload": "gemm", "pass": "fwd", "precision": {"name": "fp32"}, "params": {"m": 9, "n": 9, "k": 9}}


def row(impl: str, time_s: float = 1e-3, spread: float = 0.1, **changes: Any) -> Any:
    ends = {"time_s_lo": time_s * (1 - spread), "time_s_hi": time_s * (1 + spread)}
    work = changes.pop("work", valid_rows.WORK)
    return valid_rows.make(work, **{"impl": impl, "time_s": time_s, **ends, **changes})


def test_the_peer_is_the_fastest_of_those_that_are_named_or_of_all_others() -> None:
    rows = [row("triton", 2e-3), row("torch", 3e-3), row("te", 1e-3)]
    found = versus(rows, "triton")
    assert (found.meetings[0].peer, found.meetings[0].ratio[0]) == ("te", pytest.approx(0.5))
    named = versus(rows, "triton", ["torch"])
    assert (named.meetings[0].peer, named.meetings[0].ratio[0]) == ("torch", pytest.approx(1.5))


def test_only_cases_of_some_names_are_looked_at() -> None:
    """A mean wanted over the layers of two models is not that over all products of a suite."""
    rows = [
        row(impl, time_s, case=case)
        for case, own in (("8b up m=2048", 1e-3), ("70b up m=2048", 4e-3), ("few tokens m=1", 1e-4))
        for impl, time_s in (("triton", own), ("torch", 2e-3))
    ]
    assert versus(rows, "triton").summaries[0].cases == 3
    found = versus(rows, "triton", only=["8b *", "70b *"])
    assert [one.case for one in found.meetings] == ["8b up m=2048", "70b up m=2048"]
    assert found.summaries[0].mean[0] == pytest.approx(1.0)
    with pytest.raises(InputError, match=r"found .9b .*, expected one of"):
        versus(rows, "triton", only=["9b *"])


def test_the_interval_is_that_of_both_in_quadrature() -> None:
    (one,) = versus([row("triton", 2e-3, 0.1), row("torch", 3e-3, 0.2)], "triton").meetings
    ratio, lo, hi = one.ratio
    assert math.log(ratio / lo) == pytest.approx(math.hypot(math.log(1.1), -math.log(0.8)))
    assert math.log(hi / ratio) == pytest.approx(math.hypot(-math.log(0.9), math.log(1.2)))
    unknown = row("torch", 3e-3, time_s_lo=None, time_s_hi=None)
    assert versus([row("triton"), unknown], "triton").meetings[0].ratio[1:] == (None, None)


@pytest.mark.parametrize(
    "apart",
    [{"run_id": "r2"}, {"work": OTHER}, {"cache": "cold"}, {"placement": "chip"}, {"status": "inaccurate"},
     {"recompute": "full"}],
)  # fmt: skip
def test_rows_of_another_run_or_work_or_that_are_not_ok_do_not_meet(apart: dict[str, Any]) -> None:
    found = versus([row("triton"), row("torch", **apart)], "triton")
    assert found.meetings == ()
    assert found.alone == (("gemm 2x3x4 fwd fp32", "no peer of triton has a row that is ok in its run"),)


def test_one_that_failed_is_named_with_its_reason() -> None:
    failed = row("triton", status="unsupported", error="no GPU")
    assert versus([failed, row("torch")], "triton").alone == (
        ("gemm 2x3x4 fwd fp32", "triton is unsupported: no GPU"),
    )  # fmt: skip


def test_the_mean_is_geometric_and_the_least_has_its_case() -> None:
    rows = [
        row("triton", 1e-3), row("torch", 4e-3), row("triton", 1e-3, work=OTHER, case="nine"),
        row("torch", 0.25e-3, work=OTHER, case="nine"),
    ]  # fmt: skip
    (mean,) = versus(rows, "triton").summaries
    assert (mean.cases, mean.least, mean.where, mean.above) == (2, pytest.approx(0.25), "nine", 0.5)
    assert mean.mean[0] == pytest.approx(1.0)
    halves = [math.log(ratio / lo) for ratio, lo, _ in (one.ratio for one in versus(rows, "triton").meetings)]
    assert math.log(mean.mean[0] / mean.mean[1]) == pytest.approx(math.hypot(*halves) / 2)


def test_floors_are_those_of_the_chip_and_the_gap_is_over_the_larger() -> None:
    bandwidth = chips.load("h100-sxm").bandwidth_bytes
    own = row("triton", chip="h100-sxm", flops=1e12, tflops=1e12 / 1e-3 / 1e12, bytes=bandwidth / 2000, peak_tflops=4e3)
    (one,) = versus([own, row("torch")], "triton").meetings
    assert (one.flops_s, one.bytes_s) == (pytest.approx(0.25e-3), pytest.approx(0.5e-3))
    assert one.gap == pytest.approx(2.0)
    (unknown,) = versus([row("triton"), row("torch")], "triton").meetings
    assert (unknown.flops_s, unknown.bytes_s, unknown.gap) == (None, None, None)


def test_how_it_ran_is_that_of_its_own_row() -> None:
    state = {"mfu": 0.5, "ceiling_fraction": 0.7, "power_w": 600.0, "power_limit_w": 650.0, "sm_clock_mhz": 1500.0}
    (one,) = versus([row("triton", **state), row("torch", mfu=0.4)], "triton").meetings
    assert {name: getattr(one, name) for name in state} == state


@pytest.mark.parametrize(("impl", "peers", "field"), [("tritn", [], "--impl"), ("triton", ["torhc"], "--peer")])
def test_names_that_no_row_has_are_refused_with_the_nearest(impl: str, peers: list[str], field: str) -> None:
    with pytest.raises(InputError, match=rf"{field}: found .*\(did you mean"):
        versus([row("triton"), row("torch")], impl, peers)
