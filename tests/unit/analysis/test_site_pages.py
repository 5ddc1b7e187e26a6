"""The table of docs/decide.md has the figures of the worked case, by the command above it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from perwatt.cli import _app

DOCS = Path(__file__).resolve().parents[3] / "docs"
NAMES = {"GB300 NVL72": "gb300-nvl72", "Trn3 gen2": "trn3-gen2-ultraserver", "DGX H100": "dgx-h100"}
COLUMNS = {3: ("tokens_per_day", 1e12), 4: ("tokens_per_mwh", 1e9)}


@pytest.fixture
def options(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Results of each option, by the first command of the page."""
    page = (DOCS / "decide.md").read_text()
    command = re.findall(r"^    perwatt (site .*)$", page, re.MULTILINE)[0]
    with pytest.raises(SystemExit):
        _app.main([*command.split(), "--json"])
    return {one["name"]: one["results"] for one in json.loads(capsys.readouterr().out)["options"]}


def test_what_the_site_gives(options: dict[str, dict[str, dict[str, float]]]):
    page = (DOCS / "decide.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    found = [(row, system) for row in rows for called, system in NAMES.items() if row[0].startswith(f"{called}, ")]
    assert len(found) == len(options) == 6
    for row, system in found:
        results = options[f"{system}, {row[0].split(', ')[1].lower()}"]
        assert row[1] == f"{results['chips']['value']:,.0f}"
        for at, (name, scale) in COLUMNS.items():
            value, lo, hi = (float(text) for text in re.findall(r"[\d.]+", row[at]))
            shown = [results[name][end] / scale for end in ("value", "lo", "hi")]
            assert [value, lo, hi] == pytest.approx(shown, rel=6e-3), row[0]


def test_how_sure_the_choice_is(capsys: pytest.CaptureFixture[str]):
    """Both bands of Trn3's MFU stand side by side, with the shares of draws of the page's own commands."""
    page = (DOCS / "decide.md").read_text()
    said = re.findall(r"^\| .* \| ([\d.]+) \| (\d+) %, (\d+) % \|$", page, re.MULTILINE)
    commands = re.findall(r"^    perwatt (site .*)$", page, re.MULTILINE)
    assert len(said) == 2
    for command, (lead, gb300, trn3) in zip(commands, said, strict=False):
        with pytest.raises(SystemExit):
            _app.main([*command.split(), "--json"])
        (eight,) = (one for one in json.loads(capsys.readouterr().out)["choices"] if one["width"] == 8)
        assert eight["lead"] == pytest.approx(float(lead), abs=0.006)
        chances = eight["chance"]["gb300-nvl72, fp8"], eight["chance"]["trn3-gen2-ultraserver, mxfp8"]
        assert [round(100 * share) for share in chances] == [int(gb300), int(trn3)]
