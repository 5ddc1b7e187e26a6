"""`perwatt compare`: what people, spreadsheets and machines get, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perwatt.results import csvfile
from perwatt.results.schema import Row
from support.valid_rows import WORK, make

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]

OTHER = {**WORK, "params": {"m": 9, "n": 9, "k": 9}}
NASTY = '=HYPERLINK("x")|<b>*bold*</b>\x1b[31m'


def row(time_s: float, work: dict[str, Any] = WORK, **changes: Any) -> Row:
    cells = {
        "time_s": time_s, "time_s_lo": time_s * 0.999, "time_s_hi": time_s * 1.001, "time_s_p10": None,
        "time_s_p90": None, "flops": 48.0, "tflops": 48.0 / time_s / 1e12, "chip_id": "c1", **changes,
    }  # fmt: skip
    return make(work, **cells)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    csvfile.write([row(2e-3, run_id="a"), row(1e-3, OTHER, run_id="a")], tmp_path / "old.csv")
    failed = make(OTHER, status="oom", error="memory ran out", run_id="b")
    csvfile.write([row(1e-3, run_id="b"), failed], tmp_path / "new.csv")
    csvfile.write([row(4e-3, run_id="c", chip="Other chip", chip_id="c2")], tmp_path / "third.csv")
    return tmp_path


def test_people_get_a_table(perwatt: Perwatt, files: Path):
    done = perwatt("compare", "old.csv", "new.csv")
    assert (done.returncode, done.stderr) == (0, "")
    line = next(line for line in done.stdout.splitlines() if "time_s" in line)
    assert line.split() == [
        "2x3x4", "fwd", "fp32", "time_s,", "tflops", "2.000", "ms", "1.000", "ms", "2.000", "[1.972,", "2.029]",
        "faster", "1",
    ]  # fmt: skip
    assert "1     allows 1 % between processes" in done.stdout
    assert "unmatched (1): new has no such work: gemm 2x3x4 fwd fp32 torch (old, old.csv:3)" in done.stdout
    assert "excluded (1): oom: memory ran out: gemm 2x3x4 fwd fp32 torch (new, new.csv:3)" in done.stdout


def test_machines_get_json(perwatt: Perwatt, files: Path):
    done = perwatt("compare", "old.csv", "new.csv", "--json", "--metric", "time_s", "--track", "best")
    found = json.loads(done.stdout)
    (pair,) = found["pairs"]
    wanted = {"match_key", "metric", "ratio", "lo", "hi", "verdict", "reason"}
    assert wanted <= pair.keys()
    assert (pair["match_key"], pair["metric"], pair["verdict"]) == (row(1.0).match_key, "time_s", "faster")
    assert pair["lo"] < pair["ratio"] < pair["hi"]
    assert [one["line"] for one in found["excluded"]] == [3]
    assert found["baseline"] == "old"


def test_spreadsheets_get_a_line_for_each_pair(perwatt: Perwatt, files: Path):
    done = perwatt("compare", "old.csv", "new.csv", "--csv")
    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {line["metric"] for line in lines} == {"time_s", "tflops"}
    assert float(lines[0]["ratio"]) == pytest.approx(2.0)
    assert float(lines[0]["candidate_value"]) == pytest.approx(1e-3)


def test_the_baseline_may_be_named_as_it_was_given(perwatt: Perwatt, files: Path):
    for name in ("new", "new.csv"):
        found = json.loads(perwatt("compare", "old.csv", "new.csv", "--baseline", name, "--json").stdout)
        assert (found["baseline"], found["pairs"][0]["verdict"]) == ("new", "slower")


def test_more_than_two_sides_make_a_table_of_generations(perwatt: Perwatt, files: Path):
    options = ["--baseline", "new", "--metric", "time_s", "--markdown"]
    done = perwatt("compare", "old.csv", "new.csv", "x=third.csv", *options)
    lines = done.stdout.splitlines()
    assert "| case | on | new (A chip) \\* | old (A chip) | x (Other chip) |" in lines
    cells = next(line for line in lines if line.startswith("| gemm")).split(" | ")
    assert cells[2].startswith("1.000 ms torch")
    assert cells[3] == "0.500 \\[0.493, 0.507\\] slower (1)"
    assert cells[4].startswith("0.250 \\[0.2")


def test_nothing_matched_is_code_3(perwatt: Perwatt, files: Path):
    csvfile.write([row(1e-3, {**WORK, "params": {"m": 1, "n": 1, "k": 1}})], files / "far.csv")
    for form in ([], ["--csv"], ["--markdown"], ["--json"]):
        done = perwatt("compare", "third.csv", "far.csv", *form)
        assert done.returncode == 3
        assert "--json" in form or done.stderr == "nothing could be matched\n"
        assert "--csv" not in form or done.stdout.startswith("match_key,protocol_key,case,"), "a header all the same"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["old.csv", "nowhere.csv"], "error: nowhere.csv: no such file"),
        (["old.csv"], "error: found one side with 1 kind of chip, expected two sides to compare"),
        (
            ["old.csv", "new.csv", "--baseline", "nev"],
            "error: baseline: found 'nev', expected one of new, old",
        ),
        (["old.csv", "new.csv", "--metric", "times"], "error: metric: found 'times', expected one of "),
        (["old.csv", "new.csv", "--region", "-1"], "error: Invalid value for '--region'"),
        (["old.csv", "bad.csv"], "error: bad.csv:2: match_key: found '0123456789abcdef', `work` gives"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(perwatt: Perwatt, files: Path, arguments: list[str], message: str):
    text = (files / "old.csv").read_text().replace(row(1.0).match_key, "0123456789abcdef")
    (files / "bad.csv").write_text(text)
    done = perwatt("compare", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(message)


def test_bad_files_are_left_out_when_asked(perwatt: Perwatt, files: Path):
    (files / "bad.csv").write_text("nonsense\n")
    assert perwatt("compare", "old.csv", "b=new.csv,bad.csv").returncode == 2
    done = perwatt("compare", "old.csv", "b=new.csv,bad.csv", "--skip-bad")
    line = "bad.csv:1: found no column of a results CSV, expected its header"
    assert (done.returncode, done.stderr) == (0, f"left out: {line}\n")
    assert f"left out, cannot be read: {line}" in done.stdout


def test_text_of_files_is_harmless_where_it_is_shown(perwatt: Perwatt, files: Path):
    for name, time_s in (("a", 1e-3), ("b", 1.1e-3)):
        csvfile.write([row(time_s, case=NASTY, impl=NASTY, run_id=name)], files / f"{name}.csv")
    forms: list[list[str]] = [[], ["--markdown"], ["--csv"]]
    terminal, markdown, table = (perwatt("compare", "a.csv", "b.csv", *form).stdout for form in forms)
    assert "\x1b" not in terminal + markdown + table
    assert "<b>" not in markdown
    assert "\\|" in markdown
    assert "&lt;b&gt;\\*bold\\*&lt;/b&gt;" in markdown
    assert all(line["case"].startswith("'=HYPERLINK") for line in csv.DictReader(io.StringIO(table)))


def test_the_command_needs_no_torch(perwatt: Perwatt, files: Path):
    (files / "torch.py").write_text("raise ImportError('no torch here')\n")
    done = perwatt("compare", "old.csv", "new.csv", PYTHONPATH=os.pathsep.join([str(files), *sys.path]))
    assert done.returncode == 0, done.stderr
