"""``perwatt run`` on the CUDA backend whose driver and torch.cuda are fakes: health, faults, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from conftest import Perwatt
from perwatt.results import csvfile, validate

FAKES = Path(__file__).parents[1]
SUITE = """
suite: pretended
measure: {target_ci: 0.5, min_samples: 4, max_time_s: 0.4, sample_time_s: 0.02, cache: hot, processes: 1}
cases:
  - {workload: gemm, params: {m: 96, n: 96, k: 96}, precision: fp32}
"""
MORE = """
  - {workload: gemm, params: {m: 96, n: 96, k: 96}, precision: fp16}
  - {workload: rmsnorm, params: {tokens: 96, hidden: 96}, precision: fp32, pass: fwd+bwd}
"""
Run = tuple["CompletedProcess[str]", list[Any]]


@pytest.fixture
def run(perwatt: Perwatt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the suite on the pretended GPU with a fault; gives the process and the rows."""
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.syspath_prepend(str(FAKES / "fakes" / "pretend"))

    def go(fault: str = "", *options: str, suite: str = SUITE) -> Run:
        (tmp_path / "suite.yaml").write_text(suite)
        words = ("run", "suite.yaml", "--device", "pretend-cuda", "--out", "out", *options)
        done = perwatt(*words, PRETEND_FAULT=fault, OMP_NUM_THREADS="1")
        results = tmp_path / "out" / "results.csv"
        if not results.exists():
            return done, []
        assert validate.check(results) == []
        return done, csvfile.read(results)

    return go


def test_a_healthy_gpu(run: Any, tmp_path: Path) -> None:
    done, rows = run(suite=SUITE + MORE)
    assert done.returncode == 0, done.stderr
    assert len(rows) == 3
    for row in rows:
        assert (row.status, row.backend, row.chip) == ("ok", "pretend-cuda", "h100-sxm")
        assert (row.timing_method, row.chips, row.limiter) == ("cuda_events", 1.0, "none")
        assert (row.sm_clock_mhz, row.mem_clock_mhz, row.power_limit_w, row.temp_c) == (1980, 2619, 700, 55)
        assert (row.ecc, row.driver, row.runtime) == (0, "580.159.04", "CUDA 13.0")
        assert row.peak_bytes == 123_000_000
        assert row.bound in ("host", "device")
        assert len(row.chip_id) == 16
    environment = json.loads((tmp_path / "out" / "env.json").read_text())
    assert "132" in json.dumps(environment)


@pytest.mark.parametrize(
    ("fault", "status", "words", "flag"),
    [
        ("throttle", "unstable", "held down by heat", "throttled"),
        ("ecc", "unstable", "2 memory errors that could not be corrected", None),
        ("power_cap", "ok", None, "power_capped"),
        ("neighbour", "ok", None, "shared"),
        ("clock_drop", "ok", None, "clock_drop"),
    ],
)
def test_what_is_wrong_with_the_gpu_is_in_the_row(
    run: Any, fault: str, status: str, words: str | None, flag: str | None
) -> None:
    longer = SUITE.replace("min_samples: 4", "min_samples: 50").replace("max_time_s: 0.4", "max_time_s: 3")
    row = run(fault, suite=longer)[1][0]  # a second of samples, or too few readings fall into them on a busy machine
    assert row.status == status, row.error
    assert words is None or words in row.error
    assert flag is None or flag in row.flags.split()


def test_events_that_miss_work_give_way_to_the_wall(run: Any) -> None:
    rows = run("side_stream")[1]
    assert [row.timing_method for row in rows] == ["wall"]


def test_a_lost_context_costs_one_row_and_one_worker(run: Any) -> None:
    done, (first, lost, last) = run("context_loss", suite=SUITE + MORE)
    assert done.returncode == 1
    assert (first.status, lost.status, last.status) == ("ok", "crashed", "ok")
    assert "illegal memory access" in lost.error


def test_a_capture_that_fails_is_unsupported_and_costs_nobody_else(run: Any) -> None:
    """It leaves an allocator behind that cannot be emptied, so another worker goes on."""
    suite = SUITE.replace("precision: fp32}", "precision: fp32, impl: [torch, torch+graph]}") + MORE
    done, (eager, graph, *others) = run("capture", suite=suite)
    assert done.returncode == 0, done.stderr
    assert (eager.impl, eager.status, graph.impl, graph.status) == ("torch", "ok", "torch+graph", "unsupported")
    assert "cannot be captured as a graph: CUDA error: operation failed" in graph.error
    assert [row.status for row in others] == ["ok", "ok"]


def test_a_gpu_in_use_is_refused_or_marked(run: Any) -> None:
    done, rows = run("busy")
    assert (done.returncode, rows) == (3, [])
    assert done.stderr.count("\n") == 1
    assert "pid 4711" in done.stderr
    assert "--shared" in done.stderr
    done, rows = run("busy", "--shared")
    assert done.returncode == 0
    assert all("shared" in row.flags.split() for row in rows)


@pytest.mark.parametrize(
    ("fault", "words"),
    [("old_driver", "runs CUDA 12.2, torch is built for 13.0"), ("no_instance", "MIG on and no instance")],
)
def test_a_gpu_that_cannot_be_used_says_why(run: Any, fault: str, words: str) -> None:
    done, rows = run(fault)
    assert (done.returncode, rows) == (3, [])
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_gpu_that_does_not_exist(run: Any) -> None:
    done, _ = run("", "--device", "pretend-cuda:3")
    assert done.returncode == 2
    assert "found GPU 3, expected one of those here: 0 NVIDIA H100 80GB HBM3" in done.stderr
