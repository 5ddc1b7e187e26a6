"""A run of training steps with kernels by name: rows that say what ran, and why something did not."""

from __future__ import annotations

import csv
from pathlib import Path

from conftest import Perwatt

SUITE = """
suite: kernels
measure: {target_ci: 0.5, min_samples: 3, max_time_s: 1}
energy: off
defaults: {impl: [torch, torch+sdpa-math+chunked, torch+sdpa-cudnn]}
cases:
  - workload: train_step
    params:
      model: {hidden: 64, intermediate: 160, layers: 1, heads: 4, kv_heads: 2, vocab: 300}
      batch: 2
      seq: 16
    sweep: {precision: [bf16_master, fp8_row]}
"""


def test_rows_say_which_kernels_ran(perwatt: Perwatt, tmp_path: Path) -> None:
    (tmp_path / "kernels.yaml").write_text(SUITE)
    done = perwatt("run", "kernels.yaml", "--device", "cpu", "--out", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    with open(tmp_path / "out" / "results.csv", newline="") as file:
        found = {(row["precision"], row["impl"]): row for row in csv.DictReader(file)}
    for precision, linear in (("bf16_master", ""), ("fp8_row", " linear:torch")):
        assert found[precision, "torch"]["path"].endswith(linear or "flash_cpu")
        named = found[precision, "torch+sdpa-math+chunked"]
        assert (named["status"], named["impl_class"]) == ("ok", "eager")
        assert named["path"] == f"math attention:sdpa-math{linear} loss:chunked"
        refused = found[precision, "torch+sdpa-cudnn"]
        assert refused["status"] == "unsupported"
        assert "has no CUDNN_ATTENTION backend on cpu" in refused["error"]
    assert perwatt("validate", "out/results.csv").returncode == 0
