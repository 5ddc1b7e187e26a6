"""A run's folder holds all that its suite needs: run again from another place it measures the same work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perwatt.results import csvfile

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {
    "model_type": "llama", "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 256,
}  # fmt: skip
SUITE = """
suite: configured
measure: {target_ci: 0.5, min_samples: 2, max_samples: 2, max_time_s: 0.2}
cases:
  - {workload: optimizer_step, params: {model: models/small/config.json, optimizer: sgd}}
"""


def perwatt(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(map(str, (ROOT / "bench", ROOT / "kernels")))
    return subprocess.run(
        [sys.executable, "-m", "perwatt", *words], cwd=cwd, env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_moved_folder_gives_the_same_keys(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "models" / "small").mkdir(parents=True)
    second.mkdir()
    (first / "models" / "small" / "config.json").write_text(json.dumps(CONFIG))
    (first / "configured.yaml").write_text(SUITE)
    done = perwatt(tmp_path, "run", "first/configured.yaml", "--out", "first/out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert perwatt(first, "run", "configured.yaml", "--out", "out", "--resume").returncode == 0

    (first / "out").rename(second / "moved")
    (first / "models" / "small" / "config.json").unlink()
    assert perwatt(second, "validate", "moved").returncode == 0
    again = perwatt(second, "run", "moved/suite.yaml", "--out", "again")
    assert again.returncode == 0, again.stdout + again.stderr
    rows = [csvfile.read(second / folder / "results.csv") for folder in ("moved", "again")]
    assert [row.match_key for row in rows[0]] == [row.match_key for row in rows[1]]
    assert [row.case for row in rows[0]] == [row.case for row in rows[1]]
    resumed = perwatt(second, "run", "moved/suite.yaml", "--out", "moved", "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
