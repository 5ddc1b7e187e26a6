"""`perwatt gate`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from perwatt.results.schema import Row
from support.results import row, rows, write

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]
MANY = {"processes": 50}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write(tmp_path, "base.csv", rows(3, **MANY))


def now(folder: Path, *found: Row) -> Path:
    return write(folder, "now.csv", found)


def test_passed(perwatt: Perwatt, base: Path):
    now(base.parent, *rows(3, run_id="now", **MANY))
    done = perwatt("gate", "now.csv", "--baseline", "base.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "gate: passed (3 checks: 0 failed, 0 unclear, 3 passed)"


def test_a_gate_that_decides_nothing_says_so(perwatt: Perwatt, base: Path):
    now(base.parent, *rows(3, run_id="now", spread=0.2, **MANY))
    done = perwatt("gate", "now.csv", "--baseline", "base.csv")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == (
        "gate: passed, with nothing decided (3 checks: 0 failed, 3 unclear, 0 passed)"
    )


def test_failed(perwatt: Perwatt, base: Path):
    now(base.parent, *rows(2, run_id="now", **MANY), row(3, seconds=1.1, run_id="now", **MANY))
    done = perwatt("gate", "now.csv", "--baseline", "base.csv", "--max-regression", "5%")
    assert done.returncode == 1
    first = next(line for line in done.stdout.splitlines() if "gemm 3" in line)
    assert "+10 % [" in first
    assert "failed" in first
    assert perwatt("gate", "now.csv", "--baseline", "base.csv", "--max-regression", "12%").returncode == 0


def test_json_has_all(perwatt: Perwatt, base: Path):
    broken = row(2, status="crashed", error="died", run_id="now")
    now(base.parent, row(1, run_id="now", **MANY), broken, row(9, run_id="now", **MANY))
    done = perwatt("gate", "now.csv", "--baseline", "base.csv", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["exit_code"], found["passed"]) == (1, 1, False)
    names = {name: [one["case"] for one in found[name]] for name in ("checks", "broken", "vanished", "new")}
    assert names == {"checks": ["gemm 1"], "broken": ["gemm 2"], "vanished": ["gemm 3"], "new": ["gemm 9"]}


def test_markdown_is_harmless(perwatt: Perwatt, base: Path):
    name = "<img src=x onerror=alert(1)> | [a](http://b) `c`"
    now(base.parent, row(1, case=name, seconds=2.0, run_id="now", **MANY))
    write(base.parent, "base.csv", [row(1, case=name, **MANY), row(2, case=name, **MANY)])
    done = perwatt("gate", "now.csv", "--baseline", "base.csv", "--markdown")
    assert done.returncode == 1
    assert done.stdout.startswith("**gate: failed (1 checks: 1 failed")
    assert "<img" not in done.stdout
    assert "&lt;img src=x onerror=alert(1)&gt; \\| \\[a\\](http://b) \\`c\\`" in done.stdout


def test_nothing_matched(perwatt: Perwatt, base: Path):
    now(base.parent, row(7, run_id="now"))
    done = perwatt("gate", "now.csv", "--baseline", "base.csv")
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1].startswith("gate: nothing was measured")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["now.csv", "--baseline", "none.csv"], "error: none.csv: no such file"),
        (["now.csv", "--baseline", "base.csv", "--limit", "time=3"],
         "error: --limit time: found '3', expected a percentage such as 3%"),
        (["now.csv", "--baseline", "base.csv", "--limits", "limits.yaml"], "error: limits.yaml: cannot be read"),
        (["now.csv"], "error: Missing option '--baseline'; see perwatt gate --help"),
        (["now.csv", "--baseline", "broken.csv"], "error: broken.csv:3: time_s: found 'fast', expected a finite"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(perwatt: Perwatt, base: Path, arguments: list[str], message: str):
    now(base.parent, row(1, run_id="now"))
    text = base.read_text().splitlines(keepends=True)
    text[2] = text[2].replace(",1.0,0.998", ",fast,0.998")
    (base.parent / "broken.csv").write_text("".join(text))
    done = perwatt("gate", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert done.stderr.startswith(message)
