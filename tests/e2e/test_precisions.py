"""Policies beyond those of one format, through `perwatt run`: autocast with its op list in the key, and fp8."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perwatt.backends import autocast
from perwatt.backends.cpu import Cpu
from perwatt.results import csvfile, validate
from perwatt.results.schema import Row

SUITE = """
suite: formats
measure: {target_ci: 1.0, min_samples: 2, max_time_s: 0.1, cache: hot, timeout_s: 60}
cases:
  - {workload: gemm, params: {m: 64, n: 96, k: 80}, precision: bf16_autocast, pass: fwd+bwd}
  - workload: gemm
    params: {m: 64, n: 96, k: 80}
    sweep: {precision: [fp8_row, mxfp8]}
"""


@pytest.fixture
def suite(tmp_path: Path) -> str:
    (tmp_path / "formats.yaml").write_text(SUITE)
    return "formats.yaml"


def rows_of(folder: Path) -> list[Row]:
    assert validate.check(folder / "results.csv") == []
    return csvfile.read(folder / "results.csv")


def test_autocast_and_fp8_are_measured_and_resumed(perwatt, suite: str, tmp_path: Path) -> None:
    done = perwatt("run", suite, "--out", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(tmp_path / "run")
    statuses = {row.precision: str(row.status) for row in rows}
    assert statuses == {
        "bf16_autocast": "ok", "fp8_row": "ok", "mxfp8": "unsupported",
    }  # fmt: skip
    assert len({row.task_key for row in rows if row.pass_ == "fwd"}) == 1
    assert "MXFP8" in (rows[-1].error or "")
    seen = json.loads(rows[0].work)["precision"]["autocast_ops"]
    assert seen == autocast.own_key(Cpu())
    assert all(json.loads(row.work)["precision"]["autocast_ops"] == "" for row in rows[1:])

    again = perwatt("run", suite, "--out", "run", "--resume")
    assert again.returncode == 0, again.stdout + again.stderr
    assert rows_of(tmp_path / "run") == rows
