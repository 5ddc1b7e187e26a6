"""The gate: what it fails, what it lets pass, and how often it is wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import perwatt
from perwatt.analysis.gate import gate
from perwatt.analysis.gate_limits import limits
from perwatt.analysis.gate_reading import upper_tail, welch
from perwatt.analysis.gate_result import Check, Gate, GateOptions, Outcome
from perwatt.errors import InputError
from perwatt.results.schema import Row
from support.gates import alarms, found_share
from support.results import row, rows, run, write


def judged(folder: Path, before: list[Row], now: list[Row], **options: Any) -> Gate:
    base = perwatt.load(write(folder, "base.csv", before))
    return gate(perwatt.load(write(folder, "now.csv", now)), base, GateOptions(**options))


def only(found: Gate) -> Check:
    assert len(found.checks) == 1
    return found.checks[0]


def later(count: int, **changes: Any) -> list[Row]:
    return rows(count, run_id="now", **changes)


def test_ten_percent_is_found_and_named(tmp_path: Path):
    now = [*later(49), row(50, seconds=1.1, run_id="now")]
    found = judged(tmp_path, rows(50), now)
    assert [check.case for check in found.failed] == ["gemm 50"]
    assert found.failed[0].worse == pytest.approx(0.10)
    assert found.exit_code == 1


def test_nothing_worse_passes(tmp_path: Path):
    found = judged(tmp_path, rows(50), later(50, seconds=1.01))
    assert {check.outcome for check in found.checks} == {Outcome.PASSED}
    assert found.exit_code == 0


def test_better_is_never_worse(tmp_path: Path):
    found = judged(tmp_path, rows(5), later(5, seconds=0.5))
    assert (found.exit_code, only_worse(found)) == (0, [pytest.approx(-0.5)] * 5)


def only_worse(found: Gate) -> list[float]:
    return [check.worse for check in found.checks]


def test_the_lower_end_decides_and_not_the_point(tmp_path: Path):
    wide = judged(tmp_path, [row(spread=0.05)], [row(seconds=1.06, spread=0.05, run_id="now")])
    assert only(wide).outcome == Outcome.UNCLEAR
    assert wide.exit_code == 0
    narrow = judged(tmp_path, [row(processes=50)], [row(seconds=1.06, run_id="now", processes=50)])
    check = only(narrow)
    assert check.outcome == Outcome.FAILED
    assert check.worse_lo is not None
    assert check.worse_lo > check.limit
    assert check.p < 0.025


def test_holm_asks_for_more_of_each_of_many(tmp_path: Path):
    spread, seconds = 0.0102, 1.047  # beyond 3 % by itself, and by a hair
    alone = judged(
        tmp_path, [row(spread=spread, processes=200)], [row(seconds=seconds, spread=spread, processes=200, run_id="n")]
    )
    assert only(alone).outcome == Outcome.FAILED
    among = judged(
        tmp_path,
        rows(50, spread=spread, processes=200),
        [row(seconds=seconds, spread=spread, processes=200, run_id="n"),
         *rows(49, first=2, spread=spread, processes=200, run_id="n")],
    )  # fmt: skip
    worst = max(among.checks, key=lambda check: check.worse)
    assert worst.outcome == Outcome.UNCLEAR
    assert "not among 50 checks" in worst.reason
    assert among.exit_code == 0


@pytest.mark.parametrize(
    ("now", "error"),
    [("unstable", "CPU fallbacks inside samples"), ("crashed", "worker died"), ("oom", "memory ran out")],
)
def test_a_row_that_is_no_longer_ok_fails_and_is_named(tmp_path: Path, now: str, error: str):
    found = judged(tmp_path, rows(3), [*later(2), row(3, status=now, error=error, run_id="now")])
    assert found.exit_code == 1
    assert [(one.case, one.what, one.line) for one in found.broken] == [("gemm 3", f"was ok, is {now}: {error}", 4)]


def test_one_bad_run_of_several_fails(tmp_path: Path):
    bad = row(status="crashed", error="died", run_id="n3")
    found = judged(tmp_path, [row()], [row(run_id="n1"), row(run_id="n2"), bad])
    assert [one.what for one in found.broken] == ["was ok, is crashed: died in 1 of 3 runs"]


def test_what_failed_before_does_not_fail_now(tmp_path: Path):
    was = row(2, status="oom", run_id="base")
    found = judged(tmp_path, [row(), was], [row(run_id="now"), row(2, status="oom", run_id="now")])
    assert (found.exit_code, [one.what for one in found.failing]) == (0, ["was oom: it broke, is oom: it broke"])
    found = judged(tmp_path, [row(), was], [row(run_id="now"), row(2, run_id="now")])
    assert (found.exit_code, [one.case for one in found.recovered]) == (0, ["gemm 2"])


def test_new_and_vanished_cases_are_listed(tmp_path: Path):
    found = judged(tmp_path, rows(2), later(2, first=2))
    assert ([one.case for one in found.vanished], [one.case for one in found.new]) == (["gemm 1"], ["gemm 3"])
    assert found.exit_code == 0
    assert judged(tmp_path, rows(2), later(2, first=2), strict=True).exit_code == 1


def test_nothing_matched(tmp_path: Path):
    found = judged(tmp_path, rows(2), later(2, first=3))
    assert (found.exit_code, found.checks) == (3, ())


def test_another_chip_is_not_judged(tmp_path: Path):
    found = judged(tmp_path, rows(1), later(1, chip="y"))
    assert (found.exit_code, [one.chip for one in found.vanished], [one.chip for one in found.new]) == (3, ["x"], ["y"])


def test_another_power_limit_is_another_chip(tmp_path: Path):
    found = judged(tmp_path, rows(1, power_limit_w=700.0), later(1, power_limit_w=400.0))
    assert found.exit_code == 3


def test_another_impl_is_not_the_same_row(tmp_path: Path):
    found = judged(tmp_path, rows(1), later(1, impl="sdpa"))
    assert (found.exit_code, [one.impl for one in found.new]) == (3, ["sdpa"])


def test_a_case_without_interval_decides_nothing(tmp_path: Path):
    blank = {"time_s_lo": None, "time_s_hi": None, "samples": 1, "n_eff": 1.0, "processes": 1}
    found = judged(tmp_path, [row(**blank)], [row(seconds=2.0, run_id="now", **blank)])
    assert (found.exit_code, only(found).outcome) == (3, Outcome.UNCLEAR)


def test_limits_of_several_figures(tmp_path: Path):
    before = [row(peak_bytes=1000.0, tokens=10.0, tokens_per_s=10.0)]
    now = [row(seconds=1.02, peak_bytes=1015.0, tokens=10.0, tokens_per_s=10.0 / 1.02, run_id="now")]
    found = judged(tmp_path, before, now, limits={"time_s": 0.03, "tokens_per_s": 0.03, "peak_bytes": 0.01})
    assert {check.metric: check.outcome for check in found.checks} == {
        "time_s": Outcome.PASSED, "tokens_per_s": Outcome.PASSED, "peak_bytes": Outcome.FAILED,
    }  # fmt: skip
    assert {check.metric: round(check.worse, 4) for check in found.checks} == {
        "time_s": 0.02, "tokens_per_s": 0.0196, "peak_bytes": 0.015,
    }  # fmt: skip


def test_a_figure_that_one_side_lacks_is_not_compared(tmp_path: Path):
    found = judged(tmp_path, [row(peak_bytes=9.0)], [row(run_id="now")], limits={"time_s": 0.03, "peak_bytes": 0.01})
    assert [one.what for one in found.not_compared] == ["peak_bytes: not known of current"]


def test_a_learned_noise_floor_raises_the_limit(tmp_path: Path):
    quiet = judged(tmp_path, [row(processes=50)], [row(seconds=1.06, run_id="now", processes=50)])
    assert quiet.exit_code == 1
    loud = judged(
        tmp_path, [row(noise_floor=0.08, processes=50)], [row(seconds=1.06, run_id="now", processes=50)],
    )  # fmt: skip
    check = only(loud)
    assert (check.outcome, check.limit, check.asked) == (Outcome.PASSED, pytest.approx(0.08, rel=0.05), 0.03)
    assert "limit raised from 3 % to the learned noise floor of 8" in check.reason


def test_a_floor_of_few_restarts_is_not_believed(tmp_path: Path):
    found = judged(tmp_path, [row(noise_floor=0.5, processes=4)], [row(run_id="now", processes=4)])
    assert only(found).limit == 0.03


def test_restarts_teach_the_floor(tmp_path: Path):
    rng = np.random.default_rng(1)
    sides = []
    for name in ("base", "now"):
        series = [list(np.exp(rng.normal(0, 0.001, 40) + rng.normal(0, 0.05))) for _ in range(6)]
        sides.append(perwatt.load(run(tmp_path / name, {1: series}, run_id=name)))
    check = only(gate(sides[1], sides[0], GateOptions(limits={"time_s": 0.001})))
    assert 0.02 < check.limit < 0.3
    assert "learned noise floor" in check.reason


def test_normalizing_takes_a_slow_machine_off(tmp_path: Path):
    before = [row(1), *rows(3, workload="attention")]
    slow = [row(1, seconds=1.3, run_id="now"), *later(3, workload="attention", seconds=1.3)]
    plain = judged(tmp_path, before, slow)
    assert plain.exit_code == 1
    found = judged(tmp_path, before, slow, normalize_by="gemm")
    assert found.exit_code == 0
    assert [check.workload for check in found.checks] == ["attention"] * 3
    assert all(check.normalized and check.worse == pytest.approx(0.0) for check in found.checks)
    assert [(one.case, one.ratio) for one in found.yardstick] == [("gemm 1", pytest.approx(1 / 1.3))]
    assert any("yardstick gemm 1 itself got slower by 30 %" in note for note in found.notes)


def test_normalizing_carries_the_yardsticks_interval(tmp_path: Path):
    steady = {"host": "h", "processes": 50}
    before = [row(1, spread=0.03, **steady), row(2, workload="mlp", **steady)]
    now = [row(1, spread=0.03, run_id="now", **steady), row(2, workload="mlp", run_id="now", **steady)]
    plain, found = (judged(tmp_path, before, now, normalize_by=name) for name in (None, "gemm"))
    alone = next(check for check in plain.checks if check.workload == "mlp")
    assert half(only(found)) == pytest.approx(math.hypot(half(alone), math.sqrt(2) * 0.03), rel=0.05)


def half(check: Check) -> float:
    assert check.worse_lo is not None
    assert check.worse_hi is not None
    return (check.worse_hi - check.worse_lo) / 2


def test_a_yardstick_of_another_run_is_none(tmp_path: Path):
    before = [row(1), row(2, workload="mlp")]
    now = [row(1, run_id="n1"), row(2, workload="mlp", run_id="n2")]
    found = judged(tmp_path, before, now, normalize_by="gemm")
    assert found.exit_code == 3
    assert [one.what for one in found.not_compared] == ["time_s: its run has no gemm that is ok on both sides"]


def test_an_unknown_yardstick_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"found 'gem', expected .* \(did you mean 'gemm'\?\)"):
        judged(tmp_path, rows(1), later(1), normalize_by="gem")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"usual": "3"}, "--max-regression: found '3', expected a percentage such as 3%"),
        ({"own": ["time"]}, "--limit: found 'time', expected NAME=PERCENT such as peak_bytes=1%"),
        ({"own": ["tim=3%"]}, "did you mean 'time'"),
        ({"own": ["mfu=150%"]}, "mfu: found 150%, expected less than 100%"),
        ({"metrics": ["wall"]}, "--metric: found 'wall', expected one of"),
    ],
)
def test_wrong_limits(given: dict[str, Any], message: str):
    with pytest.raises(InputError) as caught:
        limits(**given)
    assert message in str(caught.value)


def test_limits_of_a_file_and_of_the_command_line(tmp_path: Path):
    file = tmp_path / "limits.yaml"
    file.write_text("time: 5%\npeak_bytes: 0.5%\n")
    found = limits(usual="2%", metrics=["mfu"], own=["time=4%"], file=file)
    assert found == {"time_s": 0.04, "mfu": 0.02, "peak_bytes": pytest.approx(0.005)}
    file.write_text("time: 5%\npeak: 1%\n")
    with pytest.raises(InputError, match=r"limits.yaml:2: peak: found 'peak', expected"):
        limits(file=file)


def test_no_limit_is_that_of_the_time():
    assert (limits(), limits(usual="5%")) == ({"time_s": 0.03}, {"time_s": 0.05})


@pytest.mark.parametrize("freedom", [1.0, 2.0, 4.5, 30.0, 1e6])
@pytest.mark.parametrize("t", [0.5, 2.0, 8.0])
def test_tails_are_those_of_students_t(freedom: float, t: float):
    from scipy.stats import t as student

    assert upper_tail(t, freedom) == pytest.approx(max(student.sf(t, freedom), 1e-12), rel=5e-3)


def test_welch_lies_between_the_smaller_side_and_both():
    one = 1.0 / 2.7764
    assert welch([(1.0, 4.0), (1.0, 4.0)]) == pytest.approx((one * math.sqrt(2), 8.0), rel=1e-4)
    assert welch([(1.0, 4.0), (1e-9, 4.0)]) == pytest.approx((one, 4.0), rel=1e-4)
    assert welch([(0.0, 4.0), (0.0, 4.0)]) == (0.0, 1e6)


DESIGNS = {
    "one process": {"processes": 1, "sigma": 0.003},
    "three processes": {"processes": 3, "sigma": 0.01},
    "ten processes": {"processes": 10, "sigma": 0.02},
}


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_false_alarms_over_fifty_cases(design: str):
    """Nothing changed, and nothing may: every failure of a gate is a false alarm about one of its 50 cases."""
    assert alarms(**DESIGNS[design], limit=0.0) <= 0.05


@pytest.mark.slow
def test_false_alarms_where_the_change_is_just_the_limit():
    assert alarms(processes=3, sigma=0.01, limit=0.03, change=0.03) <= 0.05


@pytest.mark.slow
def test_false_alarms_of_normalized_cases():
    assert alarms(processes=3, sigma=0.01, limit=0.0, machine=0.2, normalize_by="gemm") <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "sigma"), [(1, 0.0), (3, 0.002), (10, 0.02)],
    ids=["one process", "three quiet processes", "ten processes"],
)  # fmt: skip
def test_ten_percent_of_one_case_is_found_among_fifty(processes: int, sigma: float):
    assert found_share(processes=processes, sigma=sigma, limit=0.03, regression=0.10) >= 0.9
