"""`perwatt site`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from perwatt.cli import _app
from perwatt.results.published import shipped

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]
WORKED = ("site", "--mw", "100", "--system", "trn3-gen2-ultraserver", "--system", "gb300-nvl72", "--system", "dgx-h100")


def test_the_worked_case(perwatt: Perwatt):
    done = perwatt(*WORKED)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    (h100,) = (line for line in lines if line.startswith("dgx-h100, fp8 "))
    assert {"49,136", "14,451", "64.32", ">=99.78"} <= set(h100.split())
    (eight,) = (line for line in lines if line.startswith("8-bit formats, by tokens_per_day: gb300-nvl72, fp8"))
    first = next(line for line in lines[lines.index(eight) :] if line.startswith("trainium-server"))
    assert "changes it" in first
    assert any(line.startswith("what would change the choice, none worth 0.1% by itself: ") for line in lines)
    assert any(line.startswith("note: trn3-gen2-ultraserver: no dollars") for line in lines)
    assert any(line.startswith("note: upper bound") for line in lines)


def test_for_machines(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        _app.main([*WORKED, "--json", "--scaling", "0.8-0.95", "--draws", "1000"])
    found = json.loads(capsys.readouterr().out)
    assert {(one["system"], one["width"]) for one in found["options"]} >= {("gb300-nvl72", 8), ("dgx-h100", 8)}
    assert not any(one["upper_bound"] for one in found["options"])
    assert all(one["source"] for one in found["assumptions"])


def test_a_figure_is_the_same_every_time(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    for name in ("a.png", "b.png"):
        with pytest.raises(SystemExit) as end:
            _app.main([*WORKED, "--draws", "1000", "--figure", str(tmp_path / name)])
        assert (end.value.code, capsys.readouterr().err) == (0, f"drawn: {tmp_path / name}\n")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--mw", "-1"], "--mw: found -1, expected megawatts above 0 and up to 100000"),
        (["--mw", "1e9"], "--mw: found 1e+09, expected megawatts above 0 and up to 100000"),
        (["--mw", "100", "--pue", "0.9"], "--pue: found 0.9, expected 1 to 10"),
        (["--mw", "100", "--pue", "1.5", "--pue-peak", "1.2"], "--pue: found 1.5 over a year and 1.2 at peak"),
        (["--mw", "100", "--pue", "1.5"], "--pue: found 1.5 over a year and 1.4 (default) at peak"),
        (["--mw", "100", "--pue-peak", "1.05"], "--pue-peak: found 1.14 (default) over a year and 1.05 at peak"),
        (["--mw", "100", "--scaling", "1.2"], "--scaling: found 1.2, expected 0 to 1"),
        (["--mw", "100", "--scaling", "0.9-0.8"], "--scaling: found '0.9-0.8', expected the smaller end first"),
        (["--mw", "100", "--system", "gb300-nvl"], "system: found 'gb300-nvl', expected"),
        (["--mw", "100", "--model", "llama-9"], "model: found 'llama-9', expected"),
        (["--mw", "100", "--rent", "gb300"], "--rent: found 'gb300', expected NAME=VALUE"),
        (["--mw", "100", "--rent", "gb299=3"], "chip: found 'gb299', expected"),
        (["--mw", "100", "--rent", "gb300=3", "--buy", "gb300=4"], "--buy: found 'gb300' in --rent as well"),
        (["--mw", "100", "--mfu", "trainium3=0.4"], "--mfu: found 'trainium3', expected CHIP/FORMAT"),
        (["--mw", "100", "--grid", "mars"], "grid: found 'mars', expected"),
        (["--mw", "100", "--figure", "a.gif"], "--figure: found 'gif', expected"),
        (["nowhere.csv", "--mw", "100"], "nowhere.csv: no such file"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], line: str):
    with pytest.raises(SystemExit) as end:
        _app.main(["site", *arguments])
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (2, "")
    assert said.err.startswith(f"error: {line}")
    assert said.err.count("\n") == 1


def test_no_rows(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        _app.main(["site", "--mw", "100", "--model", "llama-tiny", "--seq", "128"])
    said = capsys.readouterr()
    assert (end.value.code, said.out, said.err.count("\n")) == (3, "", 1)
    assert said.err.startswith("no row of llama-tiny at 128 tokens")


def test_bad_files_are_left_out_and_said(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit) as end:
        _app.main(["site", str(bad), str(shipped.find("nvidia-fp8")), "--mw", "1", "--skip-bad", "--draws", "1000"])
    said = capsys.readouterr()
    assert (end.value.code, said.err.count("\n")) == (0, 1)
    assert said.err.startswith(f"left out: {bad}")
    assert "gb300-nvl72, fp8" in said.out
