from __future__ import annotations

import io

import pytest
from rich.console import Console

from perwatt.report import console, progress
from perwatt.runner.part import Part
from perwatt.spec.case import build

CASES = [build({"workload": "gemm", "params": {"m": m, "n": 64, "k": 64}, "impl": ["torch"]}) for m in (64, 128)]
DONE = Part(case=CASES[0].identity, impl="torch", samples=[0.01] * 30, blocks=[0] * 30, elapsed_s=2.5)


def test_plain_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    with progress.screen(console.console(stream), "s: 2 cases", CASES) as screen:
        screen.visit(CASES[0], 0, 0.0)
        screen.event({"event": "phase", "impl": "torch", "phase": "open"})
        screen.part(DONE)
        screen.visit(CASES[1], 1, 0.5)
        screen.part(Part(case=CASES[1].identity, impl="torch", status="crashed", error="[red]x"))
    title, first, second, third, fourth = stream.getvalue().splitlines()
    assert title == "s: 2 cases"
    assert first.startswith(f"[1/2] {CASES[0].name}")
    assert second.split() == ["torch", "10.00", "ms", "±0%", "30", "samples", "in", "2.5", "s"]
    assert third.startswith(f"[2/2] {CASES[1].name}, restart 1")
    assert fourth.split() == ["torch", "crashed:", "[red]x"]


def test_a_case_with_nothing_to_do_is_not_named():
    stream = io.StringIO()
    with progress.screen(console.console(stream), "s: 2 cases", CASES) as screen:
        screen.visit(CASES[0], 0, 0.0)
        screen.visit(CASES[1], 0, 0.5)
        screen.part(DONE)
    assert "[1/2]" not in stream.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_slow_is_told_once_with_how_long_it_is_waited_for(terminal, monkeypatch):
    now, stream = [100.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Console(file=stream, force_terminal=terminal, width=120, markup=False, highlight=False)
    with progress.screen(shown, "s: 2 cases", CASES) as screen:
        screen.visit(CASES[0], 0, 0.0)
        screen.event({"event": "phase", "impl": "torch", "phase": "compile"})
        for _ in range(3):
            now[0] += 30.0
            screen.event({"event": "quiet", "impl": "torch"})
        assert stream.getvalue().count("slow here") == 1
        assert "slow here: first call for 30.00 s; waited for up to timeout_s = 600" in stream.getvalue()
        screen.event({"event": "phase", "impl": "torch", "phase": "warmup"})
        screen.event({"event": "quiet", "impl": "torch"})
        assert stream.getvalue().count("slow here") == 2
        assert stream.getvalue().count(f"[1/2] {CASES[0].name}\n") + terminal == 1 + terminal


def test_time_left_by_the_pace_so_far(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = progress.Lines(console.console(io.StringIO()), CASES)
    lines.visit(CASES[0], 0, 0.5)  # half of it was done before a resume
    assert lines.left() == ""
    now[0] = 110.0
    lines.visit(CASES[1], 0, 0.75)
    assert lines.left() == "10 s"
    now[0] = 114.0
    assert lines.left() == "6 s"
    now[0] = 130.0
    assert lines.left() == "", "a case that takes longer than others leaves nothing to go by"
    lines.visit(CASES[1], 0, 1.0)
    assert lines.left() == ""


@pytest.mark.parametrize("width", [80, 120])
def test_one_moving_line_on_a_terminal(width):
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=width, markup=False, highlight=False)
    with progress.screen(terminal, "s: 2 cases", CASES) as screen:
        screen.visit(CASES[0], 0, 0.0)
        screen.event({"event": "phase", "impl": "torch", "phase": "warmup"})
        screen.event(
            {"event": "progress", "impl": "torch", "samples": 12, "median_s": 0.01, "lo_s": 0.0099, "hi_s": None}
        )
        screen.part(DONE)
    text = stream.getvalue()
    assert "torch · warming up" in text
    assert "12 samples" in text
    assert "10.00 ms" in text


def test_cases_of_one_name_are_told_apart():
    step = {"workload": "train_step", "params": {"model": "llama-tiny", "batch": 2, "seq": 32, "optimizer": "adamw"}}
    cases = [build({**step, **how}) for how in ({"placement": "chip"}, {"placement": "chip", "parallel": "ddp"}, {})]
    stream = io.StringIO()
    with progress.screen(console.console(stream), "s", [*cases, CASES[0]]) as screen:
        for case in [*cases, CASES[0]]:
            screen.visit(case, 0, 0.0)
            screen.part(Part(case=case.identity, impl="torch", status="crashed", error="x"))
    heads = [line for line in stream.getvalue().splitlines() if line.startswith("[")]
    assert [line.rpartition(", ")[2] for line in heads[:3]] == ["chip fsdp", "chip ddp", "device"]
    assert heads[3] == f"[4/4] {CASES[0].name}"
