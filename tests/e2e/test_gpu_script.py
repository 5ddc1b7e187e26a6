"""``make gpu`` without a GPU, and as a whole on the pretended one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perwatt.report import measured
from perwatt.results import csvfile

ROOT = Path(__file__).resolve().parents[2]
FAKES = ROOT / "tests"
SUITE = """
suite: pretended
measure: {target_ci: 0.5, min_samples: 4, max_time_s: 0.4, sample_time_s: 0.02, cache: hot, processes: 1}
cases:
  - {workload: gemm, params: {m: 96, n: 96, k: 96}, precision: fp32}
"""


def script(*options: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(FAKES), str(FAKES / "fakes" / "pretend"), *sys.path])
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "gpu.py", *map(str, options)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("device", "fault", "code", "words"),
    [
        ("pretend-cuda", "no_instance", 3, "MIG on and no instance"),
        ("pretend-cuda:3", "", 2, "found GPU 3, expected one of those here"),
    ],
)
def test_what_is_not_there_is_one_line(tmp_path: Path, device: str, fault: str, code: int, words: str) -> None:
    done = script("--device", device, "--into", tmp_path / "gpu", PRETEND_FAULT=fault)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert words in done.stderr
    assert not (tmp_path / "gpu").exists()


@pytest.mark.slow
def test_everything_in_one_go_and_again(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    readme = tmp_path / "README.md"
    readme.write_text(f"{measured.BEGIN}\n{measured.END}\n")
    options = ["--device", "pretend-cuda", "--suite", tmp_path / "suite.yaml", "--budget", "60s", "--into", tmp_path]
    options += ["--measured", tmp_path / "measured", "--readme", readme, "--", "-q", "-p", "no:cacheprovider"]
    for _ in range(2):
        done = script(*options)
        assert done.returncode == 0, done.stdout + done.stderr
    rows = csvfile.read(tmp_path / "measured" / "h100-sxm-pretended" / "results.csv")
    assert [row.status for row in rows] == ["ok"]
    assert "Suite `pretended` on `h100-sxm`" in readme.read_text()
    assert "1 of 1 rows ok" in (tmp_path / "suite.log").read_text()
    assert "skipped" in (tmp_path / "timers.log").read_text(), "here is no GPU to compare timers on"
