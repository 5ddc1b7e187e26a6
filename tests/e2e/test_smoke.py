"""The suite that every new user runs first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perwatt.results import validate
from perwatt.spec import suite

SECONDS = 280  # the minute it takes on a quiet machine is no affair of a test


@pytest.mark.slow
def test_every_row_of_smoke_is_ok(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "perwatt", "run", "smoke", "--out", "out", "--json"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, timeout=SECONDS,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["workload"] for row in rows} == {case.workload.name for case in suite.load("smoke").cases}
    assert validate.check(tmp_path / "out" / "results.csv") == []
