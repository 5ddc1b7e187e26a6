"""What people read of a comparison: every line has its verdict, why, formats and evidence, also of many columns."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from perwatt.report.comparison import sheets
from perwatt.report.comparison_formats import show
from perwatt.report.console import console
from perwatt.report.sheet import Sheet
from support.runs import compared, timed
from support.valid_rows import WORK

STEP = {**WORK, "workload": "train_step", "pass": "step"}
FP8 = {**STEP, "precision": {"name": "fp8_tensor"}}


def shown(folder: Path, *sides: Any, **options: Any) -> list[Sheet]:
    return sheets(compared(folder, *sides, metrics=("time_s",), track="best", **options))


def why(made: list[Sheet]) -> dict[str, str]:
    return {reason: number for sheet in made if sheet.title == "why" for number, reason in sheet.rows}


def test_a_table_of_generations_says_why(tmp_path: Path):
    made = shown(tmp_path, [timed(1.0)], [timed(0.5, impl="nki", flags="host_bound")], [timed(1.0, rel=0.05)])
    (row,) = made[0].rows
    numbers = why(made)
    bound = f"{numbers['allows 1 % between processes']} {numbers['b is host_bound']}"
    assert row[2] == "1.000 s torch"
    assert row[3].endswith(f"faster nki ({bound})")
    assert "unclear (" in row[4]
    assert any("would settle it" in reason for reason in numbers)


def test_both_formats_stand_on_every_line(tmp_path: Path):
    sides = [timed(1.0, STEP, cache=None)], [timed(0.5, FP8, cache=None), timed(1.0, STEP, cache=None)]
    two = shown(tmp_path, *sides, across_formats=True)
    assert [row[0].rpartition(" (")[2] for row in two[0].rows] == ["fp32 / fp8_tensor)", "fp32 / fp32)"]
    three = shown(tmp_path, *sides, [timed(1.0, FP8, cache=None)], across_formats=True)
    (row,) = three[0].rows
    assert row[2].endswith(" in fp32")
    assert [" in fp8_tensor" in cell or " in fp32" in cell for cell in row[3:]] == [True, True]
    assert row[3].count(" in fp") == 2


def test_a_table_of_one_format_does_not_name_it(tmp_path: Path):
    made = shown(tmp_path, [timed(1.0)], [timed(0.5)], [timed(0.5)])
    assert not any(" in fp32" in cell for row in made[0].rows for cell in row)


@pytest.mark.parametrize("width", [60, 80, 110, 140])
@pytest.mark.parametrize("sides", [2, 4])
def test_names_of_figures_and_verdicts_stay_whole_on_a_narrow_screen(tmp_path: Path, width: int, sides: int):
    tokens = {"tokens": 10.0, "tokens_per_s": 10.0, "tokens_per_s_per_chip": 10.0, "peak_bytes": 2e10}
    found = compared(tmp_path, *[[timed(1.0, **tokens)] for _ in range(sides)], track="best")
    stream = io.StringIO()
    show(console(stream, width), found)
    words = stream.getvalue().replace(",", " ").replace(";", " ").split()
    for word in ("time_s", "tokens_per_s_per_chip", "same", "1.000"):
        assert word in words, word
    assert max(map(len, stream.getvalue().splitlines())) <= width
    assert {"20.00", "GB"} <= set(words)
