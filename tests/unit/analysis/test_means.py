"""Geometric means: each case counts once, formats are kept apart, and flags that matter are counted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from perwatt.analysis.result import Mean
from perwatt.results.schema import Row
from support.runs import compared, timed
from support.valid_rows import WORK

STEP = {**WORK, "workload": "train_step", "pass": "step"}


def case(number: int, time_s: float, work: dict[str, Any] = WORK, **changes: Any) -> Row:
    return timed(time_s, {**work, "params": {"m": number, "n": 1, "k": 1}}, case=f"case {number}", **changes)


def means(folder: Path, a: list[Row], b: list[Row], **options: Any) -> tuple[Mean, ...]:
    return compared(folder, a, b, metrics=("time_s",), **options).means


def test_a_case_counts_once_however_many_ways_it_was_done(tmp_path: Path):
    ways = [("torch", "eager"), ("torch.compile", "graph"), ("triton", "kernel")]
    a = [case(1, 1.0, impl=impl, impl_class=kind) for impl, kind in ways] + [case(2, 1.0)]
    b = [case(1, 0.5, impl=impl, impl_class=kind) for impl, kind in ways] + [case(2, 1.0)]
    (mean,) = means(tmp_path, a, b, track="like")
    assert (mean.cases, mean.ratio) == (2, pytest.approx(math.sqrt(2.0)))


def test_parts_of_their_own_add_in_quadrature(tmp_path: Path):
    (mean,) = means(tmp_path, [case(n, 1.0) for n in range(4)], [case(n, 1.0) for n in range(4)], track="like")
    half = math.sqrt(2 * (0.001**2 + 0.01**2)) / math.sqrt(4)
    assert math.log(mean.hi or 0.0) == pytest.approx(half, rel=2e-3)


def test_formats_are_not_averaged(tmp_path: Path):
    fp8 = {**STEP, "precision": {"name": "fp8_tensor"}}
    a = [case(n, 1.0, STEP, cache=None) for n in (1, 2)]
    b = [case(n, 0.5, fp8, cache=None) for n in (1, 2)] + [case(n, 1.0, STEP, cache=None) for n in (1, 2)]
    found = means(tmp_path, a, b, track="best", across_formats=True)
    assert {mean.formats: mean.ratio for mean in found} == {
        "fp32 / fp8_tensor": pytest.approx(2.0), "fp32 / fp32": pytest.approx(1.0),
    }  # fmt: skip


def test_flags_that_matter_are_counted(tmp_path: Path):
    a = [case(n, 1.0) for n in range(3)]
    (mean,) = means(tmp_path, a, [case(0, 1.0, flags="host_bound"), case(1, 1.0), case(2, 1.0)], track="best")
    assert mean.reason == "1 of 3 cases host_bound"
    assert means(tmp_path, a, a, track="best")[0].reason == ""
