"""`perwatt chips`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from perwatt.hardware import chips

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]
OWN = """\
name: own
title: A chip of mine
vendor: me
family: own
peaks:
  - {formats: [tf32], value: 50, unit: TFLOP/s, source: lab, grade: B}
  - {formats: [bf16], value: 100, unit: TFLOP/s, source: lab, grade: B}
memory: {value: 16, unit: GB, source: lab, grade: B}
bandwidth: {value: 1, unit: TB/s, source: lab, grade: B}
no_watts: never measured
sources: {lab: {title: our laboratory, location: here, date: 2026-11-01}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own.yaml").write_text(OWN)
    return tmp_path / "own"


def test_all_chips(perwatt: Perwatt):
    done = perwatt("chips", COLUMNS="250")
    assert (done.returncode, done.stderr) == (0, "")
    for name in chips.names():
        assert f"\n{name} " in done.stdout
    assert "chips/h100-sxm.yaml" not in done.stdout, "only files that are not shipped are shown"


def test_names_are_whole_on_a_narrow_screen(at_80: Callable[..., str]):
    shown = at_80("chips").splitlines()
    assert {line.split()[0] for line in shown if line.strip()} >= set(chips.names())
    assert all(len(line.rstrip()) <= 80 for line in shown)
    compared = at_80("chips", "--compare", "h100-sxm", "trainium2", "trainium3")
    table, ratios = compared.split("ratios to h100-sxm")
    assert table.splitlines()[1].split() == ["quantity", "unit", "h100-sxm", "trainium2", "trainium3"]
    assert ratios.splitlines()[1].split() == ["quantity", "trainium2", "trainium3"]
    assert "~700 (600 to" in table
    assert {"h100-sxm-tdp", "trainium2-500w", "trainium3-700w"} <= set(table.split())
    assert all(len(line.rstrip()) <= 80 for line in table.splitlines())


def test_all_chips_for_machines(perwatt: Perwatt):
    found = {entry["name"]: entry for entry in json.loads(perwatt("chips", "--json").stdout)}
    assert sorted(found) == chips.names()
    assert found["trainium2"]["peak_tflops"]["bf16"] == 667
    assert (found["trainium2"]["power_w"], found["trainium2"]["power_kind"]) == (500, "assumption")
    assert found["trainium1"]["power_w"] is None
    assert found["trainium1"]["no_power"]


def test_a_sheet_with_sources_and_conflicts(perwatt: Perwatt):
    shown = perwatt("chips", "trn3", COLUMNS="300").stdout
    for text in ("trainium3: AWS Trainium3", "600 to 1,000", "epoch-trn3", "2026-04", "chips/trainium3.yaml",
                 "grades: A published by the vendor", "where sources disagree",
                 "fierce", "epoch.ai/data/ml_hardware.csv"):  # fmt: skip
        assert text in shown
    (sheet,) = json.loads(perwatt("chips", "trainium3", "--json").stdout)
    figures = {figure["field"]: figure for figure in sheet["figures"]}
    watts = figures["watts[0]"]
    assert (watts["lo"], watts["value"], watts["hi"], watts["unit"]) == (600, 700, 1000, "W")
    assert watts["file"] == "chips/trainium3.yaml"
    assert sheet["sources"][watts["source"]]["date"] == watts["dated"]
    assert "watts[0]" in sheet["conflicts"]


def test_a_sheet_with_systems_and_their_prices(perwatt: Perwatt):
    shown = perwatt("chips", "trainium2", COLUMNS="300").stdout
    assert "35.7608 USD/h capacity_block 2026-10-08" in shown
    (sheet,) = json.loads(perwatt("chips", "trainium2", "--json").stdout)
    systems = {system["name"]: system for system in sheet["systems"]}
    assert systems["trn2-ultraserver"]["chips"] == 64
    (price,) = systems["trn2.48xlarge"]["prices"]
    assert (price["value"], price["dated"], price["file"]) == (35.7608, "2026-10-08", "prices.yaml")
    (sheet,) = json.loads(perwatt("chips", "h100-sxm", "--json").stdout)
    prices = {s["name"]: [price["value"] for price in s["prices"]] for s in sheet["systems"]}
    assert sorted(prices["p5.48xlarge"]) == [41.528, 55.04], "of each kind of purchase the newest"


def test_chips_side_by_side(perwatt: Perwatt):
    shown = perwatt("chips", "--compare", "h100-sxm", "trn1", "trn3", COLUMNS="250").stdout
    assert "ratios to h100-sxm" in shown
    assert "~700 (600 to 1,000) trainium3-700w" in shown
    assert "trainium1: no watts: AWS publishes no watt figure" in shown
    found = json.loads(perwatt("chips", "h100-sxm", "trn3", "--compare", "--json").stdout)
    lines = {line["quantity"]: line for line in found["lines"]}
    assert lines["any 8-bit float"]["ratios"] == [1, pytest.approx(2517 / 1979)]
    clock = json.loads(perwatt("chips", "trn2", "trn3", "--compare", "--basis", "clock", "--json").stdout)
    assert next(line for line in clock["lines"] if line["quantity"] == "bf16")["cells"][0]["value"] == 629.1


def test_sheets_of_the_users_own(perwatt: Perwatt, folder: Path):
    for given in ((("--chips", str(folder)), {}), ((), {"PERWATT_CHIPS": str(folder)})):
        arguments, environment = given
        found = {e["name"]: e for e in json.loads(perwatt("chips", "--json", *arguments, **environment).stdout)}
        assert found["own"]["files"] == [str(folder / "own.yaml")]
        assert found["h200"]["files"] == ["chips/h100-sxm.yaml", "chips/h200.yaml"]
    (folder / "perwatt").mkdir()
    (folder / "perwatt" / "chips").symlink_to(folder)
    assert perwatt("chips", "own", XDG_CONFIG_HOME=str(folder)).returncode == 0


def test_watts_of_the_users_own_are_not_called_the_vendors(perwatt: Perwatt, folder: Path):
    watts = "watts: [{id: our-cap, kind: rated, default: true, value: 400, unit: W, source: lab, grade: B}]"
    (folder / "own.yaml").write_text(OWN.replace("no_watts: never measured", watts))
    shown = perwatt("chips", "--compare", "own", "h200", "--chips", folder).stdout
    assert f"own: 400 W, limit by 'our laboratory' in {folder / 'own.yaml'} (our-cap)" in shown
    assert "h200: 700 W, the vendor's limit (" in shown
    assert f"own: from {folder / 'own.yaml'}" in perwatt("chips", "--chips", folder).stdout


def mistake(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["h100"], "error: chip: found 'h100', expected one of "),
        (["trainium4"], "(did you mean 'trainium"),
        (["h200", "--compare"], "error: --compare: found 1, expected two names or more"),
        (["trn3", "h200", "trainium3", "--compare"], "--compare: found 'trainium3' twice, expected different chips"),
        (["h200", "--basis", "clock"], "error: --basis: found 'clock' without --compare"),
        (["--chips", "nowhere"], "error: --chips: found 'nowhere', expected a folder with chips"),
    ],
)
def test_wrong_usage_is_one_line(perwatt: Perwatt, arguments: list[str], message: str):
    assert message in mistake(perwatt("chips", *arguments))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" unit: GB,", "", ":8: memory.unit: found nothing, expected a value"),
        (", date: 2026-11-01", "", ":11: sources.lab.date: found nothing, expected a value"),
        ("[bf16]", "[bf16", ":7: "),
    ],
)
def test_a_wrong_sheet_is_one_line(perwatt: Perwatt, folder: Path, old: str, new: str, message: str):
    (folder / "own.yaml").write_text(OWN.replace(old, new))
    assert f"{folder / 'own.yaml'}{message}" in mistake(perwatt("chips", "own", "--chips", folder))


def test_a_sparse_peak_is_a_warning(perwatt: Perwatt, folder: Path):
    (folder / "own.yaml").write_text(OWN.replace("value: 100, unit: TF", "value: 200, unit: TF"))
    done = perwatt("chips", "own", "--chips", folder)
    assert done.returncode == 0
    assert done.stderr == (
        f"warning: {folder / 'own.yaml'}:7: peaks: found 200 TFLOP/s for bf16 beside 50 for tf32, expected about 100: "
        "is it a sparse peak?\n"
    )


@pytest.mark.parametrize("arguments", [[], ["h100-sxm"], ["own"], ["h200", "h100-sxm", "--compare"]])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prices: []\n", ":1: looks like a price list, expected a chip sheet: PERWATT_PRICES={0}/other.yaml "),
        ("# x\nsystems: []\n", ":2: looks like a file of systems, expected a chip sheet: PERWATT_SYSTEMS={0} "),
        ("suite: a\ncases: []\n", ":1: looks like a suite, expected a chip sheet: perwatt validate {0}/other.yaml"),
        ("name: other\n", ":1: title: found nothing, expected a value"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_sheet_is_refused_whatever_is_asked_for(
    perwatt: Perwatt, folder: Path, arguments: list[str], text: str, message: str
):
    (folder / "other.yaml").write_text(text)
    assert f"{folder / 'other.yaml'}{message.format(folder)}" in mistake(
        perwatt("chips", "--chips", folder, *arguments)
    )
