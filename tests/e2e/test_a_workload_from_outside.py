"""What adding a workload costs: one file of another package and an entry point. Everything else follows from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perwatt.results import csvfile, validate

ROOT = Path(__file__).resolve().parents[2]
VISITOR = ROOT / "tests" / "fakes" / "visitor"
PATHS = os.pathsep.join(map(str, (ROOT / "bench", ROOT / "kernels", VISITOR)))
SUITE = """
suite: visitors
measure: {target_ci: 0.5, min_samples: 2, max_time_s: 0.2, cache: hot}
defaults: {impl: [torch, torch.compile]}
cases:
  - workload: layernorm
    params: {tokens: 64, hidden: 128}
    sweep: {pass: [fwd, bwd, fwd+bwd], precision: [fp32, bf16]}
"""


def _python(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=cwd, env={**os.environ, "PYTHONPATH": PATHS}, capture_output=True,
        text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_it_is_measured_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "visitors.yaml").write_text(SUITE)
    done = _python("perwatt", "run", "visitors.yaml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert validate.check(tmp_path / "out" / "results.csv") == []
    rows = csvfile.read(tmp_path / "out" / "results.csv")
    assert len(rows) == 12
    assert {row.workload for row in rows} == {"layernorm"}
    assert all(row.status == "ok" and row.gbps and row.rel_err is not None for row in rows)


def test_it_is_listed_documented_and_checked(tmp_path: Path) -> None:
    listed: Any = json.loads(_python("perwatt", "list", "--json", cwd=tmp_path).stdout)
    assert "layernorm" in json.dumps(listed)
    page = _python("perwatt.workloads.document", cwd=tmp_path).stdout
    assert "## layernorm" in page
    assert "Leaves out:** weight and bias." in page
    (tmp_path / "visitors.yaml").write_text(SUITE.replace("hidden: 128", "hiden: 128"))
    refused = _python("perwatt", "validate", "visitors.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "hidden" in refused.stderr + refused.stdout


def test_it_costs_one_file() -> None:
    files = [path for path in VISITOR.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sorted(path.name for path in files) == ["METADATA", "entry_points.txt", "visitor.py"]
    assert len((VISITOR / "visitor.py").read_text().splitlines()) < 80
