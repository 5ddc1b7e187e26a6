"""``perwatt compile``: a suite compiled ahead of time, with planted failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import Perwatt
from fakes.neuron.machine import Machine

PLUGIN = Path(__file__).parents[1] / "fakes" / "compiling"
HEAD = "suite: own\nmeasure: {cache: hot, timeout_s: 60}\ncases:\n"
CASE = "  - {{workload: compiling, params: {{n: {n}}}, impl: [{impls}]}}\n"
Done = tuple["subprocess.CompletedProcess[str]", list[dict[str, Any]]]


@pytest.fixture
def compile_(perwatt: Perwatt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Compile a suite of these impls by size; the process, and what it tells machines."""
    monkeypatch.syspath_prepend(str(PLUGIN))

    def run(cases: dict[int, str], *options: str, **environment: str) -> Done:
        (tmp_path / "own.yaml").write_text(HEAD + "".join(CASE.format(n=n, impls=i) for n, i in cases.items()))
        words = ("compile", "own.yaml", "--json", "--timeout", "60s", *options)
        done = perwatt(*words, COMPILING_LOG=str(tmp_path / "calls"), OMP_NUM_THREADS="1", **environment)
        return done, json.loads(done.stdout)["compiled"] if done.stdout else []

    return run


def calls(folder: Path) -> list[tuple[str, str]]:
    """Impl and process of each call of a timed body."""
    lines = (folder / "calls").read_text().splitlines()
    return [(line.split()[0], line.split()[1]) for line in lines]


def test_each_failure_costs_one_impl_and_its_process(compile_: Any, tmp_path: Path) -> None:
    impls = "torch, raises, latches, dies, torch.compile, refuses"
    done, found = compile_({8: impls, 16: "torch.compile"}, "--jobs", "2", "--out", "out")
    assert done.returncode == 1, done.stderr
    assert [(one["case"].split()[1], one["impl"], one["status"]) for one in found] == [
        ("n=8", "torch", "nothing to compile"), ("n=8", "raises", "crashed"), ("n=8", "latches", "crashed"),
        ("n=8", "dies", "crashed"), ("n=8", "torch.compile", "ok"), ("n=8", "refuses", "unsupported"),
        ("n=16", "torch.compile", "ok"),
    ]  # fmt: skip
    errors = {one["impl"]: one["error"] for one in found}
    assert errors["raises"] == "ValueError: no such instruction"
    assert errors["latches"] == "RuntimeError: the compiler failed"
    assert "worker killed by SIGSEGV" in errors["dies"]
    assert errors["refuses"] == "not on Sundays"
    for one in found:
        assert (one["seconds"] is not None) == (one["graphs"] == 1) == (one["status"] == "ok")
    processes = dict(calls(tmp_path))
    assert len({processes["raises"], processes["latches"], processes["dies"], processes["torch.compile"]}) == 4
    assert {impl for impl, _ in calls(tmp_path)} == {"raises", "latches", "dies", "torch.compile"}
    kept = json.loads((tmp_path / "out" / "compile.json").read_text())
    assert (kept["exit_code"], kept["compiled"]) == (1, found)
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"compile.json", "worker-1.log"}


def test_what_hangs_is_ended_and_leaves_no_process(compile_: Any, tmp_path: Path) -> None:
    done, (hangs,) = compile_({8: "hangs"}, "--timeout", "5s")
    assert (done.returncode, hangs["status"]) == (1, "timeout")
    assert hangs["error"] == "no result within timeout_s = 5"
    assert not [pid for _, pid in calls(tmp_path) if psutil.pid_exists(int(pid))]


@pytest.mark.parametrize(("jobs", "signum"), [("1", signal.SIGTERM), ("2", signal.SIGINT)])
def test_an_interrupted_one_leaves_no_process(compile_: Any, tmp_path: Path, jobs: str, signum: int) -> None:
    compile_({8: "torch"})  # writes the suite
    (tmp_path / "own.yaml").write_text(HEAD + CASE.format(n=8, impls="hangs") + CASE.format(n=16, impls="hangs"))
    process = subprocess.Popen(
        [sys.executable, "-m", "perwatt", "compile", "own.yaml", "--jobs", jobs], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COMPILING_LOG": str(tmp_path / "calls")},
    )  # fmt: skip
    while not (tmp_path / "calls").exists() or len(calls(tmp_path)) < int(jobs):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signum)
    assert process.wait(60) == 130
    assert not [pid for _, pid in calls(tmp_path) if psutil.pid_exists(int(pid))]


def test_one_call_each_and_no_rows(compile_: Any, tmp_path: Path) -> None:
    done, _ = compile_({8: "torch.compile", 16: "torch.compile"})
    assert done.returncode == 0, done.stderr
    assert [impl for impl, _ in calls(tmp_path)] == ["torch.compile"] * 2
    assert len({pid for _, pid in calls(tmp_path)}) == 1, "a worker stays from case to case"
    assert {path.name for path in tmp_path.iterdir()} == {"own.yaml", "calls"}
    assert [line.partition(" in ")[0] for line in done.stderr.splitlines()] == [
        f"compiling n={n} fwd fp32 torch.compile: ok" for n in (8, 16)
    ]


@pytest.mark.parametrize("impls", ["torch", "torch, refuses"])
def test_nothing_compiled_is_exit_code_3(compile_: Any, impls: str) -> None:
    assert compile_({8: impls})[0].returncode == 3


def test_a_cache_that_stays_is_found_by_the_next(compile_: Any, tmp_path: Path, perwatt: Perwatt) -> None:
    cache, made = tmp_path / "cache", list[set[Path]]()
    for _ in range(2):
        done, found = compile_({8: "torch, torch.compile"}, "--device", "keeper", COMPILING_CACHE=str(cache))
        assert done.returncode == 0, done.stderr
        assert [(one["impl"], one["status"], one["graphs"]) for one in found] == [
            ("torch", "ok", 0), ("torch.compile", "ok", 1),
        ]  # fmt: skip
        made.append(set(cache.rglob("*.so")))
    assert made[0]
    assert made[0] == made[1], "the second time compiles nothing anew"


@pytest.mark.parametrize(
    ("device", "words"),
    [("cpu", "on cpu every run compiles into a cache of its own"), ("keeper", "a later run on this machine finds it")],
)
def test_people_are_told_what_it_is_good_for(
    compile_: Any, perwatt: Perwatt, tmp_path: Path, device: str, words: str
) -> None:
    compile_({8: "torch, refuses"})  # writes the suite
    done = perwatt("compile", "own.yaml", "--device", device, COMPILING_CACHE=str(tmp_path / "cache"))
    assert done.returncode == (3 if device == "cpu" else 0)
    assert words in done.stdout.splitlines()[-1]
    assert ("nothing to compile" in done.stdout) == (device == "cpu")
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.yaml"], "nowhere.yaml"),
        (["smoke", "--device", "cpux"], "--device: found 'cpux', expected one of auto, cpu"),
        (["smoke", "--placement", "chop"], "--placement: found 'chop', expected one of chip"),
        (["own.yaml", "--mode", "shard"], "--mode: found 'shard', expected replicate"),
        (["smoke", "--timeout", "5"], "--timeout: found '5', expected a time such as 90s"),
        (["smoke", "--jobs", "0"], "0 is not in the range"),
        (["own.yaml", "--out", "own.yaml"], "own.yaml: cannot be written (file exists)"),
    ],
)
def test_wrong_input_is_one_line(compile_: Any, perwatt: Perwatt, words: list[str], message: str) -> None:
    compile_({8: "torch"})  # writes the suite
    done = perwatt("compile", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr


def test_a_device_that_does_not_start(perwatt: Perwatt, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))
    done = perwatt("compile", "smoke", "--device", "keeper")  # no COMPILING_CACHE
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("error: the keeper worker does not start: worker exited with code 1")


TRAINIUM = """
suite: own
measure: {target_ci: 0.5, min_samples: 2, max_time_s: 0.5, cache: hot, processes: 1}
energy: "off"
cases:
  - {workload: rmsnorm, params: {tokens: 64, hidden: 64}, impl: [torch.compile]}
  - {workload: rmsnorm, params: {tokens: 64, hidden: 64}, impl: [torch.compile], placement: chip}
"""


def test_a_run_on_trainium_finds_what_was_compiled(perwatt: Perwatt, tmp_path: Path) -> None:
    """On the stand-in, by one process and by a team of four."""
    machine = Machine(tmp_path / "machine")
    (tmp_path / "own.yaml").write_text(TRAINIUM)
    environment = machine.environment(OMP_NUM_THREADS="1")
    done = perwatt("compile", "own.yaml", "--json", "--device", "neuron", **environment)
    assert done.returncode == 0, done.stderr
    found = [(one["placement"], one["status"]) for one in json.loads(done.stdout)["compiled"]]
    assert found == [("device", "ok"), ("chip", "ok")]
    assert machine.programs() > 0
    done = perwatt("run", "own.yaml", "--json", "--device", "neuron", "--out", "out", **environment)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout)["rows"]:
        assert row["compile_cold_s"] is None, "it was compiled before"
        assert row["compile_warm_s"] > 0


def test_what_is_compiled_is_spread_as_a_run_would_be(perwatt: Perwatt, tmp_path: Path) -> None:
    environment = Machine(tmp_path / "machine").environment(OMP_NUM_THREADS="1")
    (tmp_path / "own.yaml").write_text(TRAINIUM.rpartition("  - {")[0])
    words = ("compile", "own.yaml", "--json", "--device", "neuron", "--placement", "chip")
    done = perwatt(*words, **environment)
    assert done.returncode == 0, done.stderr
    assert [(one["placement"], one["status"]) for one in json.loads(done.stdout)["compiled"]] == [("chip", "ok")]


def test_a_compilation_that_fails_on_trainium_costs_its_row(perwatt: Perwatt, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", faults=["compile_failure"])
    (tmp_path / "own.yaml").write_text(TRAINIUM.partition("  - {")[0] + CASE_TRAINIUM)
    environment = machine.environment(OMP_NUM_THREADS="1")
    done = perwatt("compile", "own.yaml", "--json", "--device", "neuron", **environment)
    assert done.returncode == 1, done.stderr
    found = {one["impl"]: one for one in json.loads(done.stdout)["compiled"]}
    assert (found["torch.compile"]["status"], found["torch"]["status"]) == ("crashed", "ok")
    assert "neuronx-cc failed" in found["torch.compile"]["error"]
    done = perwatt("compile", "own.yaml", "--device", "neuron", "--jobs", "5", **environment)
    assert done.returncode == 2
    assert done.stderr == "error: --jobs: found 5, expected at most 4, the devices that may be used\n"


CASE_TRAINIUM = "  - {workload: rmsnorm, params: {tokens: 64, hidden: 64}, impl: [torch.compile, torch]}\n"
