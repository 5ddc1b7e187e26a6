"""`perwatt claims`: what people and machines get, bad input in one line each, and exit codes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from perwatt.results import csvfile
from support.claimed import IN_FP8, IN_MXFP8, TEXT, step, thrice

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    csvfile.write(thrice("trainium2", 100.0, joules=50.0), tmp_path / "trn2.csv")
    csvfile.write(thrice("trainium3", 190.0, joules=36.0), tmp_path / "trn3.csv")
    return tmp_path


def test_all_claims_in_a_table_with_the_headline_first(perwatt: Perwatt):
    done = perwatt("claims")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[1].split() == ["claim", "row", "says", "of", "data", "sheet", "published", "rows", "measured", "rows"]
    assert "trn3-headline-equal" in lines[2]
    assert "trn3-headline-equal" in lines[3]
    power = next(line for line in lines if "trn3-headline-equal-power" in line)
    assert "~contradicted 1.384 (0.9688 to 1.615)" in power
    assert power.rstrip().endswith("not testable")
    assert any(line.startswith("no measured rows: ") for line in lines)


def test_one_claim_in_full(perwatt: Perwatt):
    done = perwatt("claims", "trn3-headline-equal-power")
    assert done.returncode == 0
    text = done.stdout
    assert "(2,517 TFLOP/s / 700 W) / (1,299 TFLOP/s / 500 W) = 1.38 (0.97 to 1.61)" in text
    assert "evidence: B, watts assumed (trainium3-700w, trainium2-500w)" in text
    assert "    $ perwatt run claims --only 'headline in 8 bits*' --device neuron --energy all" in text
    assert text.count("missing: trainium3: tokens_per_j of 'headline in 8 bits precision=mxfp8'") == 1


def test_a_row_of_the_collection_shows_all_claims_of_it(perwatt: Perwatt):
    text = perwatt("claims", "T6").stdout
    assert [name in text for name in ("trn3-chip-compute", "trn3-chip-memory", "trn3-chip-bandwidth", "T5")] == [
        True, True, True, False,
    ]  # fmt: skip


def test_machines_get_claims_with_their_levels(perwatt: Perwatt):
    done = perwatt("claims", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert len(found) == 54
    for one in found:
        assert set(one) == {"claim", "levels"}
        assert set(one["levels"]) == {"datasheet", "published", "measured"}
        for level in one["levels"].values():
            assert set(level) == {"verdict", "value", "lo", "hi", "basis", "missing", "command"}
            assert level["verdict"] in {"supported", "contradicted", "not_decided", "not_testable"}
            assert isinstance(level["basis"], str)
            assert isinstance(level["missing"], list)


def test_measured_rows_are_judged(perwatt: Perwatt, tmp_path: Path):
    csvfile.write(thrice("trainium2", 100.0, IN_FP8, joules=50.0), tmp_path / "trn2.csv")
    csvfile.write(thrice("trainium3", 190.0, IN_MXFP8, joules=36.0), tmp_path / "trn3.csv")
    done = perwatt("claims", "trn2.csv", "trn3.csv", "--json")
    found = {one["claim"]: one["levels"] for one in json.loads(done.stdout)}
    power = found["trn3-headline-equal-power"]["measured"]
    assert (done.returncode, power["verdict"], power["value"]) == (0, "contradicted", pytest.approx(50 / 36))
    assert found["trn3-training-speed-per-chip"]["measured"]["verdict"] == "contradicted"
    assert found["trn3-training-speed"]["measured"]["verdict"] == "not_decided", "it is of a system"
    table = perwatt("claims", "trn2.csv", "trn3.csv").stdout
    assert "6 measured rows of 2 files" in table


def test_a_claim_of_ones_own_is_judged_with_the_others(perwatt: Perwatt, rows: Path):
    (rows / "mine.yaml").write_text(TEXT.replace("value: 2", "value: 4"))
    found = json.loads(perwatt("claims", "mine", "trn2.csv", "trn3.csv", "--claims", "mine.yaml", "--json").stdout)
    assert [one["claim"] for one in found] == ["mine"]
    assert found[0]["levels"]["measured"]["verdict"] == "contradicted"


def test_what_is_wrong_is_one_line_each_and_the_rest_goes_on(perwatt: Perwatt, rows: Path):
    own = rows / "own"
    own.mkdir()
    (own / "bad.yaml").write_text(TEXT.replace("metric: tokens_per_s_per_chip", "metric: bandwith"))
    (own / "mine.yaml").write_text(TEXT)
    (rows / "broken.csv").write_text("hello\n")
    (rows / "empty").mkdir()
    arguments = ["mine", "trn2.csv", "broken.csv", "empty", "trn3.csv", "--claims", "own", "--json"]
    done = perwatt("claims", *arguments)
    assert done.returncode == 2
    assert [one["claim"] for one in json.loads(done.stdout)] == ["mine"]
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("left out: own/bad.yaml:8: metric: found 'bandwith', expected one of ")
    assert lines[1] == "left out: empty: found no CSV of results in it"
    assert lines[2].startswith("left out: broken.csv:1: ")


def test_rows_without_energy_or_of_no_use_are_no_mistake(perwatt: Perwatt, tmp_path: Path):
    csvfile.write([step("trainium2", 100.0), step("Some chip", 100.0)], tmp_path / "plain.csv")
    done = perwatt("claims", "plain.csv", "trn3-headline-equal-power", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    level = json.loads(done.stdout)[0]["levels"]["measured"]
    assert (level["verdict"], level["value"]) == ("not_testable", None)
    assert "no measured row of trainium3" in level["basis"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trn3-chip-compote"], "error: NAME: found 'trn3-chip-compote', expected one of "),
        (["nowhere.csv"], "error: nowhere.csv: no such file"),
        (["--claims", "nowhere"], "error: nowhere: --claims: no such file or folder"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(perwatt: Perwatt, arguments: list[str], message: str):
    done = perwatt("claims", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_claim_that_is_named_and_wrong_is_told_first(perwatt: Perwatt, tmp_path: Path):
    (tmp_path / "bad.yaml").write_text(TEXT.replace("metric: tokens_per_s_per_chip", "metric: bandwith"))
    done = perwatt("claims", "--claims", "bad.yaml", "bad")
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("left out: bad.yaml:8: metric: found 'bandwith', expected one of ")
    assert second.startswith("error: NAME: found 'bad', expected one of ")


def test_a_figure_is_the_same_every_time(perwatt: Perwatt, tmp_path: Path):
    csvfile.write(thrice("trainium2", 100.0, IN_FP8, joules=50.0), tmp_path / "trn2.csv")
    csvfile.write(thrice("trainium3", 190.0, IN_MXFP8, joules=36.0), tmp_path / "trn3.csv")
    for name in ("a.svg", "b.svg"):
        done = perwatt("claims", "trn2.csv", "trn3.csv", "--figure", name)
        assert (done.returncode, done.stderr) == (0, f"drawn: {name}\n")
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    for shown in ("trn3-headline-equal-power: at least 4 x", "gb300-405b: at least 4 x", "measured rows"):
        assert f"<!-- {shown} -->" in text
    assert "trn3-ultraserver-peak" not in text, "it is no ratio"
    none = perwatt("claims", "trn3-bedrock", "--figure", "none.svg")
    assert none.returncode == 2
    assert none.stderr.startswith("error: --figure: found no claim with a ratio that is known")
    wrong = perwatt("claims", "--figure", "a.gif")
    assert (wrong.returncode, wrong.stderr.startswith("error: --figure: found 'gif'")) == (2, True)


def test_no_torch_is_needed(perwatt: Perwatt, tmp_path: Path):
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')\n")
    assert perwatt("claims", "--json", PYTHONPATH=f"{tmp_path}:{_path()}").returncode == 0


def _path() -> str:
    import os
    import sys

    return os.pathsep.join(sys.path)


def test_a_run_of_some_cases_alone(perwatt: Perwatt, tmp_path: Path):
    done = perwatt("run", "smoke", "--only", "memcpy*copy*", "--device", "cpu", "--out", "r", "--json")
    assert done.returncode == 0, done.stderr
    assert [row["workload"] for row in json.loads(done.stdout)["rows"]] == ["memcpy"]
    wrong = perwatt("run", "smoke", "--only", "memcopy", "--device", "cpu")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: --only: found 'memcopy', expected one of ")


def test_a_narrow_screen_loses_nothing(at_80: Callable[..., str]):
    text = at_80("claims")
    lines = text.splitlines()
    at = lines.index("trn3-headline-equal-power")
    told = " ".join(line.strip() for line in lines[at + 1 : at + 4])
    assert "data sheet ~contradicted 1.384 (0.9688 to 1.615); published rows not decided" in told
