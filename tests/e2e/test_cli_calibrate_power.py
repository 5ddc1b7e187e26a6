"""`perwatt calibrate-power`: from a run's journal and a meter's trace to a file of what a percent is in watts."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import neuron_run
from perwatt.power import calibration, calibration_file

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]
LEVELS = (4.0, 18.0, 33.0, 52.0, 71.0)


def asked(folder: str, *more: str) -> tuple[str, ...]:
    return "calibrate-power", folder, "--power-trace", f"{folder}/meter.csv", "--meter-class", "0.5", *more


def test_a_calibration(perwatt: Perwatt, tmp_path: Path):
    neuron_run.write(tmp_path / "run", LEVELS, ahead=37.4)
    done = perwatt(*asked("run", "-o", "c.yaml"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "the meter's clock is ahead by 37." in done.stdout
    assert "the background holds whatever else the node draws" in done.stdout
    assert "misfit" not in done.stdout
    found = calibration_file.read(tmp_path / "c.yaml")
    assert found.id in done.stdout
    assert (found.chip, found.chips, found.die_rule, found.scope) == ("trainium2", 1, "larger", "node")
    assert (found.instance_type, found.driver, found.meter_class_pct) == ("trn2.48xlarge", "2.24", 0.5)
    assert [point.case for point in found.points] == [f"case {at}" for at in range(5)]
    assert found.background_w.lo <= neuron_run.BACKGROUND_W <= found.background_w.hi
    assert found.maximum_w.lo <= neuron_run.MAXIMUM_W <= found.maximum_w.hi
    assert found.maximum_w.hi - found.maximum_w.lo < 60
    said = calibration.watts(found, 60.0, 59.0, 61.0)
    assert said.mean == pytest.approx(neuron_run.watts(60.0), rel=said.rel_sys)
    assert said.rel_sys >= 0.005


def test_json_has_points_and_fit(perwatt: Perwatt, tmp_path: Path):
    neuron_run.write(tmp_path / "run", LEVELS, ahead=0.0)
    found = json.loads(perwatt(*asked("run", "--meter-offset", "0", "--json")).stdout)
    assert [round(point["pct"]) for point in found["points"]] == [4, 18, 33, 52, 71]
    assert found["offsets"] == [{"seconds": 0.0, "u95": pytest.approx(0.5)}]
    assert found["fit"]["maximum_w"]["value"] == pytest.approx(neuron_run.MAXIMUM_W, rel=0.02)
    assert found["left_out"] == []


def test_several_runs_are_one_calibration(perwatt: Perwatt, tmp_path: Path):
    neuron_run.write(tmp_path / "a", LEVELS[:3], ahead=5.0)
    neuron_run.write(tmp_path / "b", LEVELS[:3], ahead=5.0, driver="2.30")
    done = perwatt("calibrate-power", "a", "b", "--power-trace", "a/meter.csv", "--meter-class", "0.5", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: b: driver: found points of '2.30' and of '2.24', expected them of one\n"
    neuron_run.write(tmp_path / "c", LEVELS[:3], ahead=5.0)
    done = perwatt("calibrate-power", "a", "c", "--power-trace", "a/meter.csv", "--meter-class", "0.5", "--json")
    assert len(json.loads(done.stdout)["fit"]["points"]) == 6


def test_too_few_levels_show_their_points_and_exit_3(perwatt: Perwatt, tmp_path: Path):
    neuron_run.write(tmp_path / "run", (40.0, 60.0), ahead=0.0)
    done = perwatt(*asked("run", "-o", "c.yaml"))
    assert done.returncode == 3
    assert "case 1" in done.stdout
    assert done.stderr == (
        "no calibration: found 2 levels of load, expected at least 3 that are 2 points of % apart\n"
    )  # fmt: skip
    assert not (tmp_path / "c.yaml").exists()
    done = perwatt(*asked("run", "--json"))
    assert (done.returncode, json.loads(done.stdout)["fit"]) == (3, None)


def test_a_window_that_failed_is_left_out(perwatt: Perwatt, tmp_path: Path):
    folder = neuron_run.write(tmp_path / "run", LEVELS, ahead=0.0)
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    next(event for event in events if event.get("case") == "2" and event["event"] == "window")["ended"] = "unsteady"
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    done = perwatt(*asked("run"))
    assert done.returncode == 0
    assert "left out: case 2, torch: unsteady" in done.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"quantity": "%"', '"quantity": "W"'), "run: found no window with percentages"),
        (lambda text: text.replace('"event": "window"', '"event": "other"'), "run: found no window with percentages"),
        (lambda text: "no journal\n", "run/journal.jsonl:1: found no event"),
        (
            lambda text: text.replace('"ended": ""', '"ended": "cut"'),
            "run: no window gives a point: case 0, torch: cut",
        ),
    ],
)
def test_a_run_that_gives_nothing(perwatt: Perwatt, tmp_path: Path, change: Callable[[str], str], message: str):
    journal = neuron_run.write(tmp_path / "run", LEVELS, ahead=0.0) / "journal.jsonl"
    journal.write_text(change(journal.read_text()))
    done = perwatt(*asked("run"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_no_run_and_a_trace_of_another_day(perwatt: Perwatt, tmp_path: Path):
    neuron_run.write(tmp_path / "run", LEVELS, ahead=86_400.0)
    done = perwatt(*asked("run"))
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(
        r"error: run/meter\.csv: found a trace from 2026-02-03 .* UTC, expected one that overlaps the run's windows, "
        r"2026-02-02 .* UTC \(clocks may be 120 s apart\)\n$", done.stderr,
    )  # fmt: skip
    (tmp_path / "other").mkdir()
    done = perwatt("calibrate-power", "other", "--power-trace", "run/meter.csv", "--meter-class", "1")
    assert done.stderr == "error: other: found no journal.jsonl, expected a run's folder\n"
