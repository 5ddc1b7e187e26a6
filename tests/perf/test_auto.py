"""``auto`` beside each single implementation, in interleaved blocks of one run: it may cost nothing but its choice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from perwatt.analysis.breakdown import rows
from perwatt.analysis.versus import versus

LEAST = 0.99  # of the speed of the best single choice
SUITE = """
suite: auto
defaults: {precision: fp32}
measure: {target_ci: 0.01, min_samples: 30, max_time_s: 4, cache: cold}
cases:
  - workload: gemm
    params: {n: 768, k: 512}
    sweep: {m: [64, 512], precision: [fp32, bf16]}
    impl: [auto, torch, torch.compile]
  - workload: attention
    params: {heads: 8, kv_heads: 2, head_dim: 64}
    sweep: {seq: [256, 1024], pass: [fwd, fwd+bwd]}
    impl: [auto, sdpa, sdpa-math, sdpa-flash, torch, torch.compile]
"""


@pytest.mark.timeout(900)
def test_it_is_as_fast_as_the_best_single_choice(tmp_path: Path) -> None:
    """No case's interval is wholly below the bound; of equal ones the luckiest is the peer, which is against us."""
    (tmp_path / "suite.yaml").write_text(SUITE)
    command = [sys.executable, "-m", "perwatt", "run", "suite.yaml", "--device", "cpu", "--energy", "off"]
    subprocess.run([*command, "--out", "run"], cwd=tmp_path, check=True)
    found = versus(rows.read([str(tmp_path / "run")]), "auto")
    assert found.alone == ()
    for one in found.meetings:
        ratio, lo, hi = one.ratio
        print(f"{one.case}: {ratio:.3f} [{lo:.3f}, {hi:.3f}] beside {one.peer}; {one.path}")
    for mean in found.summaries:
        print(mean.group, f"mean {mean.mean[0]:.3f} [{mean.mean[1]:.3f}, {mean.mean[2]:.3f}], least {mean.least:.3f}")
    assert all((one.ratio[2] or 0.0) >= LEAST for one in found.meetings)
