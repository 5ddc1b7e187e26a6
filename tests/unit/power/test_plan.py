"""How long windows are, which rows get one, and what all of them take."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from perwatt.power import plan
from perwatt.power.plan import HEADLINE, Plan
from perwatt.results.schema import Row
from perwatt.spec.suite import Energy
from support.power import facts
from support.rows import OK

AUTO = Energy()


def made(kind: str = "samples", asked: Energy = AUTO, mode: str | None = None, **said: Any) -> Plan:
    return plan.plan(asked, mode, facts(kind, **said))


@pytest.mark.parametrize("kind", ["counter", "samples"])
@pytest.mark.parametrize(
    ("window_s", "update_s", "lag_s", "ramp_s", "idle_s", "quiet_s"),
    [
        (5.0, 0.1, 0.0, 1.0, 5.0, 1.0),  # the least of everything
        (20.0, 0.1, 0.5, 2.0, 5.0, 1.0),  # a tenth of the window
        (20.0, 1.0, 1.0, 4.0, 20.0, 3.0),  # a slow sensor, whose averages have to leave the ramp
    ],
)
def test_windows_of_what_is_read_often(
    kind: str, window_s: float, update_s: float, lag_s: float, ramp_s: float, idle_s: float, quiet_s: float
) -> None:
    found = made(kind, window_s=window_s, update_s=update_s, lag_s=lag_s)
    assert (found.ramp_s, found.idle_s, found.quiet_s, found.align_s) == (ramp_s, idle_s, quiet_s, 0.0)
    assert found.window_s == window_s + ramp_s, "what is trimmed off comes on top"
    assert found.wait_s(1_760_000_017.3) == 0.0


@pytest.mark.parametrize(("needed", "asked", "minutes"), [(60.0, None, 1), (61.0, None, 2), (60.0, 150.0, 3)])
def test_windows_of_whole_buckets(needed: float, asked: float | None, minutes: int) -> None:
    found = made("buckets", Energy(window_s=asked), window_s=needed, poll_s=0.5)
    assert found.align_s == 60.0
    around = 2 * (found.ramp_s + plan.LEAD_S)
    assert found.window_s - around == 60.0 * minutes, "trimming cuts no bucket"
    assert found.idle_s - around == 60.0
    assert found.ramp_s > 1.0
    assert found.quiet_s >= plan.LATE_S + found.ramp_s - plan.RAMP_S, "the last bucket is seen after the load"


def test_a_load_begins_so_that_what_counts_begins_on_the_wall_clock() -> None:
    found, chance = made("buckets", window_s=60.0), random.Random(1)
    for _ in range(200):
        unix = 1_760_000_000.0 + chance.uniform(0.0, 3600.0)
        wait = found.wait_s(unix)
        assert 0.0 <= wait < 60.0
        off = (unix + wait + found.ramp_s + plan.LEAD_S) % 60.0
        assert min(off, 60.0 - off) < 1e-5


def test_the_suite_may_ask_for_longer_windows_but_not_for_shorter_ones() -> None:
    assert made(asked=Energy(window_s=40.0), window_s=10.0).window_s == 44.0
    assert made(asked=Energy(window_s=2.0), window_s=10.0).window_s == 11.0


@pytest.mark.parametrize(
    ("suite", "user", "window_s", "mode"),
    [
        ("auto", None, 30.0, "all"),
        ("auto", None, 31.0, "headline"),
        ("all", None, 60.0, "all"),
        ("headline", None, 5.0, "headline"),
        ("off", None, 5.0, "off"),
        ("off", "all", 60.0, "all"),
        ("all", "off", 5.0, "off"),
        ("auto", "headline", 5.0, "headline"),
    ],
)
def test_the_user_has_the_last_word(suite: str, user: str | None, window_s: float, mode: str) -> None:
    assert made(asked=Energy(mode=suite), mode=user, window_s=window_s).mode == mode


def test_an_outside_meter_needs_quiet_on_both_sides() -> None:
    found = plan.outside(AUTO, None)
    assert (found.mode, found.align_s) == ("all", 0.0)
    assert found.window_s - found.ramp_s >= 30.0
    assert found.quiet_s >= 5.0
    assert plan.outside(Energy(window_s=90.0), "headline").window_s - found.ramp_s == 90.0
    assert plan.outside(AUTO, "headline").mode == "headline"


def test_what_all_windows_take() -> None:
    quick = Plan(mode="all", window_s=11.0, ramp_s=1.0, idle_s=5.0, align_s=0.0, quiet_s=1.0)
    assert quick.each_s == 11.0 + 2.0 + plan.OVERHEAD_S
    assert quick.total_s(3) == 3 * quick.each_s + 2 * 5.0
    assert quick.total_s(0) == 0.0
    minute = replace(quick, align_s=60.0)
    assert minute.each_s == quick.each_s + 30.0, "on average half a minute is waited"
    assert minute.total_s(2) == 2 * minute.each_s + 2 * (5.0 + 30.0)


# Which rows


def row(case: str, workload: str = "gemm", **cells: Any) -> Row:
    return replace(OK, case=case, workload=workload, **cells)


def names(rows: list[Row], mode: Any) -> list[str]:
    return [f"{one.case} {one.impl}" for one in plan.chosen(rows, mode)]


def test_headlines_are_the_fastest_impls_of_the_cases_that_say_most() -> None:
    rows = [
        row("small", flops=1e9), row("large", flops=3e9), row("middle", flops=2e9),
        row("copy", "memcpy", flops=None, bytes=9e99), row("step", "train_step", flops=1.0),
        row("loss", "lm_head_loss", flops=1.0), row("attention", "attention", flops=1.0),
        row("layer", "transformer_layer", flops=1.0),
        row("step", "train_step", flops=1.0, impl="compiled", time_s=0.001),
        row("step", "train_step", flops=1.0, impl="fastest but wrong", time_s=1e-9, status="inaccurate"),
    ]  # fmt: skip
    random.Random(3).shuffle(rows)
    most = ["step compiled", "layer torch", "loss torch", "attention torch", "large torch", "middle torch"]
    assert names(rows, "headline") == most
    assert len(most) == HEADLINE
    every = ["step compiled", "step torch", *most[1:], "small torch", "copy torch"]
    assert sorted(names(rows, "all")) == sorted(every)
    assert [name for name in names(rows, "all") if "step" not in name] == [n for n in every if "step" not in n]
    assert names(rows, "off") == []


def test_work_without_operations_goes_by_its_bytes() -> None:
    rows = [row("a", "memcpy", flops=None, bytes=1e6), row("b", "memcpy", flops=None, bytes=1e9)]
    assert names(rows, "all") == ["b torch", "a torch"]
    assert names([row("a", flops=None, bytes=None), row("b", flops=1.0)], "all") == ["b torch", "a torch"]


def test_a_row_without_a_time_is_slower_than_any() -> None:
    rows = [row("a", impl="x", time_s=None), row("a", impl="y", time_s=math.pi)]
    assert names(rows, "headline") == ["a y"]


@pytest.mark.parametrize(
    ("mode", "rows", "cases", "most"),
    [("off", 9, 8, 0), ("all", 9, 8, 9), ("headline", 9, 8, 6), ("headline", 9, 2, 2)],
)
def test_the_most_windows_that_there_can_be(mode: Any, rows: int, cases: int, most: int) -> None:
    assert plan.most(rows, cases, mode) == most
