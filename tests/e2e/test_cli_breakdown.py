"""`perwatt breakdown`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perwatt.cli import _app
from support import steps
from support.results import write


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write(tmp_path, "run.csv", [steps.step(0.1), *steps.parts()])


def perwatt(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as end:
        _app.main(["breakdown", *map(str, arguments)])
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


def test_a_step_in_its_parts(capsys: pytest.CaptureFixture[str], run: Path):
    code, out, err = perwatt(capsys, run, "--on", "b200", "--parts")
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert lines["products"][1:3] == ["48.00", "ms"]
    assert lines["rest"][1:3] == ["+5.000", "ms"]
    assert lines["rest"][-1] == "+5.0%"
    assert "~ on b200, modeled by sheet: products x 2.27, memory x 2.39: " in out
    assert "flagged" not in out


def test_a_chip_that_nobody_can_say_it_of_leaves_the_others(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    eight = write(tmp_path, "run.csv", [steps.step(0.1, precision="fp8_tensor"), *steps.parts(precision="fp8_tensor")])
    code, out, err = perwatt(capsys, eight, "--on", "b200", "--on", "a100-80gb", "--on", "trainium3")
    assert (code, err.count("\n")) == (0, 1)
    assert " on a100-80gb: no ceiling of products and memory, and no sheet, that h100-sxm e4m3fn and" in err
    assert "~ on b200, modeled by sheet: products" in out
    assert "~ on trainium3, modeled by sheet, e4m3fn there as mxfp8: products x 1.27, memory x 1.46: " in out
    code, out, err = perwatt(capsys, eight, "--on", "a100-80gb", "--on", "b200", "--json")
    assert (code, [one["chip"] for one in json.loads(out)[0]["elsewhere"]]) == (0, ["b200"])


def test_what_is_missing_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = write(tmp_path, "few.csv", [steps.step(0.1), steps.parts()[0]])
    _, out, _ = perwatt(capsys, path)
    assert "flagged: the rest is over 25% of the step" in out
    assert "missing, and so in the rest: adamw: optimizer_step optimizer adamw parameters " in out


def test_for_machines(capsys: pytest.CaptureFixture[str], run: Path):
    code, out, _ = perwatt(capsys, run, "--json", "--on", "b200")
    (found,) = json.loads(out)
    assert (code, found["flagged"], found["elsewhere"][0]["evidence"]) == (0, False, "modeled")
    assert found["rest"]["seconds"] == pytest.approx(0.005)


def test_a_figure_is_the_same_every_time(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path):
    for name in ("a.svg", "b.svg"):
        code, _, err = perwatt(capsys, run, "--figure", tmp_path / name)
        assert (code, err) == (0, f"drawn: {tmp_path / name}\n")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_mistakes(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path):
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n1,2\n")
    alone = write(tmp_path, "alone.csv", steps.parts())
    for arguments, said in (
        ((tmp_path / "nowhere.csv",), "no such file"), ((bad,), "found no column of a results CSV"),
        ((alone,), "found no training step of a run"), ((run, "--case", "x"), "--case: found no training step of 'x'"),
        ((run, "--on", "b20"), "chip: found 'b20', expected"), ((run, "--figure", "a.gif"), "--figure: found 'gif'"),
        ((run, "--on", "trainium4"), "chip: found 'trainium4'"),
    ):  # fmt: skip
        code, out, err = perwatt(capsys, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), (arguments, out, err)
        assert said in err
    code, out, err = perwatt(capsys, bad, run, "--skip-bad")
    assert (code, err.startswith("left out: "), err.count("\n")) == (0, True, 1)
    assert "products" in out
