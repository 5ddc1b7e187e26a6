"""`perwatt roofline`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from perwatt.cli import _app
from perwatt.results.schema import Row
from support.results import write
from support.roofs import line
from support.valid_rows import WORK, make

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]


def rows() -> list[Row]:
    other = {"chip": "b200"}
    return [
        line(100, 4e-3, "attention"), line(1000, 0.0125), line(None, 4e-3, "memcpy"),
        line(1000, 0.006, **other), line(50, 2e-3, "attention", **other), line(None, 2e-3, "memcpy", **other),
    ]  # fmt: skip


def test_roofs_of_what_is_published(perwatt: Perwatt):
    done = perwatt("roofline")
    assert (done.returncode, done.stderr) == (0, "")
    (sheet, ceiling) = (each for each in done.stdout.splitlines() if each.startswith("h100-sxm bf16"))
    assert (sheet.split()[2:5], ceiling.split()[2:4]) == (["sheet", "989.4", "3,350"], ["ceiling", "794.5"])


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as end:
        _app.main(["roofline", *map(str, arguments)])
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


def test_drawn_on_a_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    code, out, err = run(capsys, write(tmp_path, "r.csv", rows()))
    assert (code, err) == (0, "")
    h100 = out[out.index("TFLOP/s\n") :]
    plot = [each.partition("|")[2] for each in h100.splitlines() if "|" in each][:16]
    assert any("-" in each for each in plot)
    assert any("." in each for each in plot)
    (attention,) = (each for each in plot if "a" in each)
    roof = plot.index(attention)
    assert roof > 0, "a row is under its roof"
    assert "across chips: a b200 bf16, b h100-sxm bf16" in out or "across chips: a h100-sxm bf16, b b200 bf16" in out


def test_for_machines(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    code, out, _ = run(capsys, write(tmp_path, "r.csv", rows()), "--json")
    found = json.loads(out)
    assert code == 0
    assert len(found["points"]) == 6
    assert {roof["basis"] for roof in found["roofs"]} == {"sheet", "ceiling"}


def test_a_figure_is_the_same_every_time(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = write(tmp_path, "r.csv", rows())
    for name in ("a.svg", "b.svg"):
        code, _, err = run(capsys, path, "--figure", tmp_path / name)
        assert (code, err) == (0, f"drawn: {tmp_path / name}\n")
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn == (tmp_path / "b.svg").read_text()


def test_roofs_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """No row of a Trainium3 has a rate of products: its sheet is drawn for what it says."""
    code, out, err = run(capsys, "--chip", "trainium3", "--figure", tmp_path / "a.svg")
    assert (code, err) == (0, f"drawn: {tmp_path / 'a.svg'}\n")
    (mx,) = (each for each in out.splitlines() if each.startswith("trainium3 mxfp8"))
    assert mx.split()[2:6] == ["sheet", "2,517", "4,900", "513.7"]
    assert "across chips: a trainium3 bf16/fp16/tf32, b trainium3 fp32, c trainium3 fp4/mxfp8" in out
    assert any("|" in each and "...c..." in each for each in out.splitlines()), "a letter at the ridge"


def test_published_products_have_their_place(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, "--chip", "trainium2", "--chip", "trainium3")
    (largest,) = (each for each in out.splitlines() if " gemm 12288x8192x8192 bf16" in each and each.startswith("a "))
    assert code == 0
    assert "3,072   p 149.4  48.64  products  89.6%" in largest
    assert "h100" not in out


def test_mistakes(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    empty = write(tmp_path, "empty.csv", [])
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    no_traffic = line(1000, 1.0, bytes=None, gbps=None, chip="my processor")
    composites = write(tmp_path, "c.csv", [no_traffic])
    crashed = write(tmp_path, "crashed.csv", [make(WORK, status="crashed", error="it broke")])
    for arguments, code, said in (
        ((tmp_path / "nowhere.csv",), 2, "no such file"), ((bad,), 2, "found no column of a results CSV"),
        ((empty,), 2, "no row below the header"), ((composites, "--figure", "a.gif"), 2, "--figure: found 'gif'"),
        ((composites, "--figure", tmp_path / "a.png"), 2, "found no roof of products and memory"),
        (("--chip", "trainium9"), 2, "chip: found 'trainium9', expected"),
    ):  # fmt: skip
        found, out, err = run(capsys, *arguments)
        assert (found, err.count("\n")) == (code, 1), (arguments, out, err)
        assert said in err
    found, _, err = run(capsys, bad, crashed, "--skip-bad")
    left, nothing = err.splitlines()
    assert (found, nothing) == (3, "no row has a rate of operations or traffic")
    assert left.startswith(f"left out: {bad}")
