"""``perwatt run`` on a stand-in Trainium machine: what is right, and that no fault gives a row with status ``ok``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from conftest import Perwatt
from fakes import neuron_table
from fakes.neuron import machine as machines
from fakes.neuron.machine import Machine
from perwatt.results import csvfile, validate

NATIVE = ("2.13", "2.14")
SECONDS = 290  # the minute it takes on a quiet machine is no affair of a test
pytestmark = pytest.mark.skipif(
    not torch.__version__.startswith(NATIVE), reason=f"the native torch-neuronx is for torch {' and '.join(NATIVE)}"
)
SUITE = """
suite: faked
measure: {{target_ci: 0.5, min_samples: 4, max_time_s: 0.4, sample_time_s: 0.02, cache: hot, processes: 1,
           timeout_s: {timeout}}}
energy: off
cases:
  - {{workload: gemm, params: {{m: 96, n: 96, k: 96, epilogue: bias_gelu_tanh}}, precision: fp32, impl: [{impl}]}}
"""
SECOND = "  - {workload: rmsnorm, params: {tokens: 96, hidden: 96}, precision: fp32, pass: fwd+bwd}\n"
OWN_FOLDERS = ("TORCH_NEURONX_NEFF_CACHE_DIR", "TORCH_NEURONX_NEFF_LOCAL_CACHE_DIR")
Done = tuple["CompletedProcess[str]", list[Any], Machine]
Run = Callable[..., Done]


def at_home(machine: Machine) -> dict[str, str]:
    """Variables for a run whose compiled programs stay in the machine's folder, where nobody named one for them."""
    cache = str(machine.folder / "cache")
    return {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": cache, **dict.fromkeys(OWN_FOLDERS, "")}


@pytest.fixture
def run(perwatt: Perwatt, neuron_machine: Callable[..., Machine], tmp_path: Path) -> Run:
    """Run a suite on a machine with faults; gives the process, the rows and the machine."""

    def go(
        *faults: str, options: tuple[str, ...] = (), impl: str = "torch", more: str = "", timeout: int = 60,
        after: int = 12, kind: machines.Kind = machines.TRN2, release: machines.Release = machines.SDK_33, **said: str,
    ) -> Done:  # fmt: skip
        machine = neuron_machine(kind=kind, release=release, faults=faults)
        (tmp_path / "suite.yaml").write_text(SUITE.format(impl=impl, timeout=timeout) + more)
        environment = {**machine.environment(), **at_home(machine), "FAKE_NEURON_AFTER": str(after), **said}
        out = machine.folder / "out"
        done = perwatt("run", "suite.yaml", "--device", "neuron", "--out", out, *options, **environment)
        results = out / "results.csv"
        rows = csvfile.read(results) if results.exists() else []
        assert not rows or validate.check(results) == []
        return done, rows, machine

    return go


def test_a_healthy_core(run: Run) -> None:
    done, (eager, graph, norm), machine = run(impl="torch, torch.compile", more=SECOND)
    assert done.returncode == 0, done.stderr
    for row in (eager, graph, norm):
        assert (row.status, row.backend, row.chip, row.lnc) == ("ok", "neuron", "trainium2", 2)
        assert (row.timing_method, row.instance_type, row.driver) == ("wall", "trn2.3xlarge", "2.31.7.0")
        assert row.runtime == "2.35.30.0"
        assert row.compiler == "neuronx-cc 2.28.7631.0"
        assert row.ecc == 0
        assert row.peak_bytes > 0
    assert "mm" in eager.path.split()
    assert graph.path.split()[0] == "neff"
    assert graph.compile_cold_s is not None
    assert len(list((machine.folder / "cache").rglob("*.neff"))) > 5
    parts = [json.loads(line) for line in (machine.folder / "out" / "journal.jsonl").read_text().splitlines()]
    guards = [event["part"]["guards"] for event in parts if event["event"] == "part"]
    assert guards == [{"compilations": 0, "graph_breaks": 0, "cpu_fallbacks": 0}] * 3


def test_programs_on_the_disk_make_a_compilation_a_warm_one(run: Run, tmp_path: Path) -> None:
    kept = str(tmp_path / "kept")
    options: dict[str, Any] = {"impl": "torch.compile", "FAKE_NEURON_COMPILE_S": "3", "XDG_CACHE_HOME": kept}
    cold, warm = (run(**options)[1][0] for _ in range(2))
    assert cold.compile_cold_s > 3
    assert warm.compile_cold_s is None
    assert warm.compile_warm_s < 3


@pytest.mark.parametrize(
    ("fault", "impl", "status", "words"),
    [
        ("fallback", "torch", "unstable", "CPU fallbacks inside samples"),
        ("late_fallback", "torch", "unstable", "CPU fallbacks inside samples"),
        ("late_recompile", "torch", "unstable", "compilations inside samples"),
        ("late_recompile", "torch.compile", "unstable", "compilations inside samples"),
        ("eager_compile_failure", "torch", "crashed", "neuronx-cc failed"),
        ("oom", "torch", "oom", "out of memory"),
        ("hw_error", "torch", "crashed", "NRT_EXEC_HW_ERR_HBM_UE"),
        ("ecc", "torch", "unstable", "memory errors"),
        ("exec_error", "torch", "unstable", "executions failed on the device"),
        ("unhealthy", "torch", "unstable", "hbm"),
    ],
)
def test_a_fault_never_gives_a_row_that_is_ok(run: Run, fault: str, impl: str, status: str, words: str) -> None:
    done, rows, _ = run(fault, impl=impl)
    assert [row.status for row in rows] == [status], (rows[0].error, done.stderr)
    assert words in rows[0].error
    assert done.returncode != 0


def test_a_hang_ends_with_the_cases_time(run: Run) -> None:
    done, (row,), _ = run("hang", timeout=10)
    assert row.status == "timeout"
    assert done.returncode != 0


def test_a_compilation_that_fails_costs_its_own_row_only(run: Run) -> None:
    """Its error comes up again in the next operation, so that goes on in another process."""
    done, (failed, norm), _ = run("compile_failure", impl="torch.compile", more=SECOND)
    assert (failed.status, norm.status, done.returncode) == ("crashed", "ok", 1)
    assert "NCC_EVRF051" in failed.error


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no_driver", "no Neuron driver"),
        ("driver_mismatch", "2.30.2.0 is on the disk and 2.31.7.0 is loaded: reboot"),
        ("old_runtime", "needs a runtime of 2.33 or later, found 2.32.31.0"),
        ("xla_product", "is the XLA product"),
        ("placeholder", "is an empty placeholder"),
        ("core_taken", "cores are held by pid"),
        ("lnc_mismatch", "NEURON_LOGICAL_NC_CONFIG"),
    ],
)
def test_what_cannot_be_measured_on_is_refused_before_anything_compiles(run: Run, fault: str, words: str) -> None:
    said = {"NEURON_LOGICAL_NC_CONFIG": "2"} if fault == "lnc_mismatch" else {}
    done, rows, machine = run(fault, **said)
    assert done.returncode in (2, 3)
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not rows
    assert not list((machine.folder / "cache").rglob("*.neff"))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"NEURON_LOGICAL_NC_CONFIG": "2", "NEURON_CC_FLAGS": "-lnc=1"}, "runtime and compiler have to agree"),
        ({"NEURON_RT_VISIBLE_CORES": "3-4"}, "found core 4, expected 0 to 3"),
        ({"NEURON_EXTRACT_GRAPHS_ONLY": "1"}, "stubs that give zeros"),
    ],
)
def test_settings_that_cannot_hold_are_refused(run: Run, said: dict[str, str], words: str) -> None:
    done, rows, _ = run(**said)
    assert (done.returncode, rows) == (2, [])
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("kind", "release", "chip", "driver"),
    [
        (machines.TRN2, machines.SDK_32, "trainium2", "2.30.2.0"),
        (machines.TRN3, machines.SDK_33, "trainium3", "2.31.7.0"),
    ],
)
def test_other_drivers_and_chips(
    run: Run, kind: machines.Kind, release: machines.Release, chip: str, driver: str
) -> None:
    done, (row,), _ = run(kind=kind, release=release)
    assert (done.returncode, row.status, row.chip, row.driver) == (0, "ok", chip, driver), done.stderr


def test_trainium1_is_told_to_come_later(run: Run) -> None:
    done, rows, _ = run(kind=machines.TRN1)
    assert (done.returncode, rows) == (3, [])
    assert "Trainium1 runs the XLA product" in done.stderr


@pytest.mark.parametrize("name", ["synchronize", "get_dynamo_metrics"])
def test_a_name_that_is_not_in_the_table_cannot_be_used(run: Run, tmp_path: Path, name: str) -> None:
    lines = neuron_table.PAGE.read_text().splitlines(keepends=True)
    page = tmp_path / "page.md"
    page.write_text("".join(line for line in lines if not line.startswith(f"| `torch.neuron.{name}(")))
    done, rows, _ = run(FAKE_NEURON_TABLE=str(page))
    assert (done.returncode, rows) == (3, [])
    assert f"has no attribute '{name}'" in done.stderr


@pytest.mark.parametrize(("fault", "words"), [("rank_dies", "rank 1"), ("rank_hangs", "rank 1")])
def test_a_rank_that_fails_ends_its_case_and_is_named(run: Run, fault: str, words: str) -> None:
    done, rows, _ = run(fault, options=("--placement", "chip"), timeout=20, after=30)
    assert [row.status for row in rows] == ["rank_failed"], done.stderr
    assert words in rows[0].error
    assert done.returncode != 0


def test_the_path_of_a_step_names_the_stacks_own_compiler(run: Run) -> None:
    step = "{workload: train_step, params: {model: llama-tiny, layers: 1, batch: 1, seq: 32}, impl: [IMPL]}"
    done, rows, _ = run(more=f"  - {step.replace('IMPL', 'torch.compile, torch')}\n", timeout=240)
    found = {row.impl: row.path.split() for row in rows if row.workload == "train_step"}
    assert (found["torch.compile"][:1], "neff" in found["torch"]) == (["neff"], False), done.stderr


def test_what_only_memory_needs_costs_no_row(run: Run, tmp_path: Path) -> None:
    lines = neuron_table.PAGE.read_text().splitlines(keepends=True)
    lacking = tuple(f"| `torch.neuron.{name}(" for name in ("reset_peak_memory_stats", "empty_cache"))
    page = tmp_path / "page.md"
    page.write_text("".join(line for line in lines if not line.startswith(lacking)))
    done, rows, _ = run(FAKE_NEURON_TABLE=str(page))
    assert [(row.status, row.peak_bytes) for row in rows] == [("ok", None)], done.stderr


def test_betas_have_their_collectives_in_a_module_of_its_own(run: Run) -> None:
    done, rows, _ = run(options=("--placement", "chip"), FAKE_NEURON_BETA="1")
    assert [(row.status, row.world_size) for row in rows] == [("ok", 4)], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("placement", [(), ("--placement", "chip")], ids=["device", "chip"])
def test_every_row_of_smoke_is_ok(neuron_machine: Callable[..., Machine], placement: tuple[str, ...]) -> None:
    machine = neuron_machine()
    done = subprocess.run(
        [sys.executable, "-m", "perwatt", "run", "smoke", "--device", "neuron", "--out", "out", *placement],
        cwd=machine.folder, env={**os.environ, **machine.environment(), **at_home(machine)},
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = csvfile.read(machine.folder / "out" / "results.csv")
    assert {row.status for row in rows} == {"ok"}
    assert all(row.rel_err is not None for row in rows if row.workload != "memcpy")
    assert validate.check(machine.folder / "out" / "results.csv") == []
