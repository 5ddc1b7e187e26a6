"""`perwatt run` says which implementation of a case is the best."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

SUITE = """suite: pair
defaults: {precision: fp32}
measure: {target_ci: 0.05, min_samples: 10, max_time_s: 5, cache: hot, processes: 1}
cases:
  - {workload: gemm, params: {m: 96, n: 96, k: 96}, impl: [torch, reference, torch+graph]}
  - {workload: softmax, params: {tokens: 64, hidden: 64}}
"""


def test_the_best_of_several(perwatt: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    (tmp_path / "pair.yaml").write_text(SUITE)
    done = perwatt("run", "pair.yaml", "--out", "out", "--json", "--device", "cpu", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    (best,) = printed["best"]
    rows = {row["impl"]: row for row in printed["rows"] if row["workload"] == "gemm"}
    assert best["among"] == ["reference", "torch"]
    assert (best["impl"], best["case"]) == ("torch", rows["torch"]["case"])
    assert best["samples_digest"] == rows["torch"]["samples_digest"]
    assert 0 <= best["time_s_lo"] <= best["time_s"] <= best["time_s_hi"]
    assert rows["torch+graph"]["status"] == "unsupported"
    assert "no graphs" in rows["torch+graph"]["error"]
    shown = perwatt("run", "pair.yaml", "--out", "again", "--device", "cpu", OMP_NUM_THREADS="1").stdout
    assert [line.split()[:3] for line in shown.splitlines() if "torch *" in line] == [["96x96x96", "fwd", "fp32"]]
    assert "* the best of its case" in shown
