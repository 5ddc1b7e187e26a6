"""Tables of docs/decide.md are what ``perwatt claims`` prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from perwatt.analysis.claims import library
from perwatt.analysis.claims.judgement import all_judged, judged
from perwatt.hardware import systems
from perwatt.report import claims as report
from perwatt.spec import suite
from perwatt.spec.picking import picked

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "decide.md").read_text()

COST = re.compile(r"at most ([\d.]+) h by the suite's timeouts(?:, which is ([\d.]+) USD)?")
WANTED = {"trn3-headline-equal-power": "both claims of the headline"}


def test_verdicts_are_those_of_the_command():
    printed = {cells[0]: [cells[0], cells[2], *cells[4:]] for cells in report.rows(all_judged(library.load()))}
    shown = [
        re.split(r"\s{2,}", line.strip()) for line in PAGE.splitlines() if re.match(r" {4}\S+ {2,}\S.* {2,}", line)
    ]
    tables = [cells for cells in shown if cells[0] in printed]
    assert len(tables) == 19
    assert tables == [printed[cells[0]] for cells in tables]


@pytest.mark.parametrize("line", re.findall(r"`perwatt (run [^`]*)`", PAGE))
def test_commands_name_cases_that_there_are(line: str):
    words = shlex.split(line)
    assert picked(suite.load(words[1]), [words[words.index("--only") + 1]]).cases


@pytest.mark.parametrize("name", ["trn3-headline-equal-power", "trn2-energy", "trn2-price-performance"])
def test_costs_are_those_of_the_command(name: str):
    (line,) = [line for line in PAGE.splitlines() if line.startswith("| ") and (WANTED.get(name) or name) in line]
    lines = judged({one.claim: one for one in library.load()}[name]).measured.missing
    for hours, dollars in (found.groups() for one in lines if (found := COST.search(one))):
        assert f"{hours} h" in line
        assert dollars is None or f"{hours} h, {dollars} USD" in line


def test_every_claim_that_is_named_is_there():
    known = {one.claim for one in library.load()}
    assert set(re.findall(r"\b(?:trn[123]|h100|gb[23]00|dgx)-[a-z0-9-]+", PAGE)) <= known | set(systems.names())
