"""Figures into files: of what they were asked, the same every time, and one line where they cannot be drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure as Canvas

from perwatt.cli import _app
from perwatt.errors import InputError
from perwatt.power.trace import Trace
from perwatt.report import figures
from support.power import EPOCH, facts, trace

START, END, RAMP = 100.0, 112.0, 1.5


def window(*traces: Trace, case: str = "c", impl: str = "torch", **changes: Any) -> dict[str, Any]:
    marks = [[START + 0.1 * n, 10 * n] for n in range(121)]
    return {
        "event": "window", "case": case, "impl": impl, "ramp_s": RAMP, "ended": "", "failed": "", "clocks": [0, EPOCH],
        "marks": marks, "traces": [one.message() for one in traces],
    } | changes  # fmt: skip


def power(at: float) -> float:
    if not START <= at <= END:
        return 70.0
    return (500.0 if at > START + RAMP else 300.0) + 0.1 * math.sin(37.0 * at)


def said(kind: str = "samples", **changes: Any) -> Trace:
    return trace(facts(kind, **changes), power, START - 3.0, END + 3.0)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A run's folder with these windows."""

    def put(*windows: dict[str, Any], names: tuple[str, ...] = ("gemm 64x64x64",)) -> Path:
        cases = [{"event": "case", "case": f"c{n or ''}", "name": name} for n, name in enumerate(names)]
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        text = "".join(json.dumps(event) + "\n" for event in ({"event": "run", "run_id": "R"}, *cases, *windows))
        (folder / "journal.jsonl").write_text(text)
        return folder

    return put


def drawn(folder: Path, chosen: str = "") -> Any:
    """The axes of the figure, before it becomes a file."""
    canvas = Canvas()
    figures.figures()["window"].draw(canvas, [folder], chosen)
    (axes,) = canvas.axes
    return axes


def labels(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.figure.legends[0].get_texts()]


@pytest.mark.parametrize(
    ("ending", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89P")]
)
def test_the_same_bytes_twice(write: Callable[..., Path], tmp_path: Path, ending: str, begins: bytes) -> None:
    folder, outs = write(window(said())), [tmp_path / f"{name}.{ending}" for name in "ab"]
    figures.save("window", [folder], "", outs[0])
    with mpl.rc_context({"font.size": 20.0, "svg.hashsalt": None}):  # a user's own settings
        figures.save("window", [folder], "", outs[1])
    first, second = (out.read_bytes() for out in outs)
    assert first.startswith(begins)
    assert first == second
    assert b"CreationDate" not in first
    assert b"<dc:date>" not in first


def test_it_shows_the_load_its_steady_part_and_the_mean(write: Callable[..., Path]) -> None:
    axes = drawn(write(window(said())))
    assert axes.get_title(loc="left") == "gemm 64x64x64, torch"
    assert axes.get_ylabel() == "W"
    assert labels(axes)[:3] == ["fake (samples)", "load, trimmed off", "steady part"]
    assert labels(axes)[3].startswith("mean 500.0 W [4")
    curve, mean = axes.lines
    assert min(curve.get_xdata()) == pytest.approx(-3.0)
    assert {round(value) for value in curve.get_ydata()} == {70, 300, 500}
    assert list(mean.get_ydata()) == pytest.approx([500.0] * 2, rel=0.01)
    assert RAMP <= mean.get_xdata()[0] < mean.get_xdata()[1] <= END - START
    load, steady = axes.patches
    assert (load.get_x(), load.get_width()) == pytest.approx((0.0, END - START))
    assert (steady.get_x(), steady.get_width()) == pytest.approx(
        (mean.get_xdata()[0], mean.get_xdata()[1] - mean.get_xdata()[0])
    )


def test_a_counter_is_shown_by_its_slope(write: Callable[..., Path]) -> None:
    axes = drawn(write(window(said("counter"))))
    middle = [value for at, value in zip(*axes.lines[0].get_data(), strict=True) if 3.0 < at < 11.0]
    assert middle == pytest.approx([500.0] * len(middle), rel=0.001)
    assert len(middle) > 20


def test_a_percentage_says_so(write: Callable[..., Path]) -> None:
    axes = drawn(write(window(trace(facts(quantity="%"), lambda at: power(at) / 12.5, START - 3.0, END + 3.0))))
    assert axes.get_ylabel() == "percent of a maximum"
    assert labels(axes)[-1].startswith("mean 40.00 % [3")


def test_a_window_that_is_not_used_says_why(write: Callable[..., Path]) -> None:
    axes = drawn(write(window(trace(facts(), 0.0, START - 3.0, END + 3.0))))
    assert [text.get_text() for text in axes.texts] == ["not used: fake: chip reads 0 W under load"]
    assert "steady part" not in labels(axes)


def test_the_one_that_is_chosen(write: Callable[..., Path]) -> None:
    other = trace(facts(sensor="other"), 40.0, START - 3.0, END + 3.0)
    folder = write(window(said()), window(other, case="c1", impl="compiled"), names=("gemm", "attention"))
    assert labels(drawn(folder))[0] == "fake (samples)"
    assert labels(drawn(folder, "atten"))[0] == labels(drawn(folder, "compiled"))[0] == "other (samples)"


def test_names_are_shown_as_they_are(write: Callable[..., Path], tmp_path: Path) -> None:
    """What matplotlib would take for mathematics, and what no terminal should see."""
    name = "costs $x_{ and $\\frac a\x07"
    folder = write(window(said(sensor="$\\sen$")), names=(name,))
    figures.save("window", [folder], "", tmp_path / "a.svg")
    assert r"costs $x_{ and $\frac a\x07, torch" in (tmp_path / "a.svg").read_text(), "in the comment of its glyphs"


@pytest.mark.parametrize(
    ("name", "out", "refusal"),
    [
        ("windw", "a.png", r"NAME: found 'windw', expected .*window.* \(did you mean 'window'\?\)"),
        ("window", "a.jpg", "-o: found 'jpg', expected one of pdf, png, svg"),
        ("window", "a", "-o: found '', expected one of pdf, png, svg"),
        ("window", "none/a.png", r".*none/a\.png: cannot be written \(No such file or directory\)"),
    ],
)
def test_what_cannot_be_drawn(write: Callable[..., Path], tmp_path: Path, name: str, out: str, refusal: str) -> None:
    with pytest.raises(InputError, match=f"^{refusal}"):
        figures.save(name, [write(window(said()))], "", tmp_path / out)
    assert not (tmp_path / out).exists()


def test_a_run_without_such_a_window(write: Callable[..., Path], tmp_path: Path) -> None:
    silent = replace(said(), times=[], took=[], unix=[], readings=[])
    none = [(), (window(),), (window(said(), marks=[]),), (window(silent),)]
    for windows in none:
        with pytest.raises(InputError, match=r"run: found no window with readings, expected a run with energy"):
            drawn(write(*windows))
    with pytest.raises(
        InputError, match=r"found no window of 'mlp' with readings, expected one of: gemm 64x64x64, torch$"
    ):
        drawn(write(window(said())), "mlp")
    with pytest.raises(InputError, match=r"empty: found no window with readings, expected a run with energy"):
        drawn(tmp_path / "empty")


def test_two_runs_are_one_too_many(write: Callable[..., Path]) -> None:
    folder = write(window(said()))
    with pytest.raises(InputError, match=r"^PATH: found 2 paths, expected one run's folder$"):
        figures.figures()["window"].draw(Canvas(), [folder, folder], "")


# perwatt plot


def plot(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        _app.main(["plot", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_the_command(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write(window(said()))
    assert plot("window", folder) == 0
    assert capsys.readouterr() == ("window.png\n", "")
    assert (tmp_path / "window.png").read_bytes().startswith(b"\x89PNG")
    assert plot("window", folder, "-o", "b.svg", "--case", "gemm") == 0
    assert (tmp_path / "b.svg").exists()
    capsys.readouterr()
    assert plot("window", folder, "--case", "mlp") == 2
    assert capsys.readouterr().err.startswith(f"error: {folder}: found no window of 'mlp'")
    assert plot("windows", folder) == 2
    assert capsys.readouterr().err.startswith("error: NAME: found 'windows', expected")
