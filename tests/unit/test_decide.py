"""Tables of docs/decide.md are what ``perwatt claims`` prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from perwatt.analysis.claims import library
from perwatt.analysis.claims.judgement import all_judged
from perwatt.hardware import systems
from perwatt.report import claims as report
from perwatt.spec import suite
from perwatt.spec.picking import picked

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "decide.md").read_text()


def test_verdicts_are_those_of_the_command():
    printed = {cells[0]: [cells[0], cells[2], *cells[4:]] for cells in report.rows(all_judged(library.load()))}
    shown = [
        re.split(r"\s{2,}", line.strip()) for line in PAGE.splitlines() if re.match(r" {4}\S+ {2,}\S.* {2,}", line)
    ]
    tables = [cells for cells in shown if cells[0] in printed]
    assert len(tables) == 17
    assert tables == [printed[cells[0]] for cells in tables]


@pytest.mark.parametrize("line", re.findall(r"`perwatt (run [^`]*)`", PAGE))
def test_commands_name_cases_that_there_are(line: str):
    words = shlex.split(line)
    assert picked(suite.load(words[1]), [words[words.index("--only") + 1]]).cases


def test_every_claim_that_is_named_is_there():
    known = {one.claim for one in library.load()}
    assert set(re.findall(r"\b(?:trn[123]|h100|gb[23]00|dgx)-[a-z0-9-]+", PAGE)) <= known | set(systems.names())
