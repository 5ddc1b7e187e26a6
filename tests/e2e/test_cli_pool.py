"""`perwatt pool`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from support.results import run

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]
SERIES = [[1.0, 1.01, 1.02, 1.03] * 5, [1.01, 1.0, 1.03, 1.02] * 5]


def test_a_pool_reads_as_a_run(perwatt: Perwatt, tmp_path: Path):
    for number in range(2):
        run(tmp_path / f"r{number}", {1: SERIES}, run_id=f"r{number}", git_sha=str(number))
    done = perwatt("pool", "r0", "r1", "-o", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "empty in 1 rows, because their runs differ in it: git_sha" in done.stdout
    assert done.stdout.endswith("1 rows in out/results.csv\n")
    assert perwatt("validate", "out").stdout == "out/results.csv: ok, 1 rows: 1 ok\n"
    run(tmp_path / "now", {1: SERIES}, run_id="now")
    judged = json.loads(perwatt("gate", "now", "--baseline", "out", "--json").stdout)
    assert [(check["case"], check["runs"]) for check in judged["checks"]] == [("gemm 1", [4, 2])]
    assert perwatt("compare", "out", "now").returncode == 0


def test_json(perwatt: Perwatt, tmp_path: Path):
    for number in range(2):
        run(tmp_path / f"r{number}", {1: SERIES}, run_id=f"r{number}")
    done = perwatt("pool", "r*", "-o", "out", "--json")
    assert json.loads(done.stdout) == json.loads((tmp_path / "out" / "pool.json").read_text())


def test_what_differs_is_one_line(perwatt: Perwatt, tmp_path: Path):
    for number in range(2):
        run(tmp_path / f"r{number}", {1: SERIES}, run_id=f"r{number}", torch=f"2.{number}")
    done = perwatt("pool", "r0", "r1", "-o", "out")
    message = "torch: found '2.1', and '2.0' in r0/results.csv:2: compare the runs instead of pooling them"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: r1/results.csv:2: {message}\n"
    assert not (tmp_path / "out").exists()


def test_bad_runs_are_left_out_when_asked(perwatt: Perwatt, tmp_path: Path):
    for number in range(3):
        run(tmp_path / f"r{number}", {1: SERIES}, run_id=f"r{number}")
    bad = tmp_path / "r1" / "results.csv"
    bad.write_text(bad.read_text().replace(",fp32,", ",bf16,", 1))
    line = "r1/results.csv:2: precision: found 'bf16', `work` gives 'fp32': the row was changed"
    done = perwatt("pool", "r0", "r1", "r2", "-o", "out")
    assert (done.returncode, done.stderr) == (2, f"error: {line}\n")
    done = perwatt("pool", "r0", "r1", "r2", "-o", "out", "--skip-bad")
    assert done.returncode == 0
    assert f"left out: {line}" in done.stdout
    assert [member["runs"] for member in json.loads((tmp_path / "out" / "pool.json").read_text())["members"]] == [
        ["r0", "r2"]
    ]


def test_a_pooled_result_beside_its_own_runs_is_said(perwatt: Perwatt, tmp_path: Path):
    for number in range(3):
        run(tmp_path / f"r{number}", {1: SERIES}, run_id=f"r{number}")
    assert perwatt("pool", "r0", "r1", "-o", "out").returncode == 0
    both = json.loads(perwatt("compare", "out", "r1", "--json").stdout)["notes"]
    assert both == ["out and r1 both have rows of run r1: they are not independent"]
    one = json.loads(perwatt("compare", "a=out,r0", "r2", "--json").stdout)["notes"]
    assert one == ["a: run r0 is there by itself and in a pooled result, so it counts twice"]
    judged = json.loads(perwatt("gate", "r1", "--baseline", "out", "--json").stdout)["notes"]
    assert judged == ["run r1 is on both sides: it is compared with itself"]
    assert json.loads(perwatt("compare", "out", "r2", "--json").stdout)["notes"] == []
