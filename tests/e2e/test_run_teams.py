"""Placements of several devices: a processor divided in two, by real teams of ranks, and what they survive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from perwatt.hardware import machine
from perwatt.results import csvfile, samples, validate
from perwatt.runner import journal

ROOT = Path(__file__).resolve().parents[2]
PATHS = [ROOT / "bench", ROOT / "kernels", ROOT / "tests" / "fakes" / "faulty"]
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PATHS)), "OMP_NUM_THREADS": "1", "COLUMNS": "150"}
MEASURE = "{target_ci: 0.5, min_samples: 5, max_time_s: 1, cache: hot, timeout_s: 60}"
SHORT = "{timeout_s: 5}"
HEAD = f"suite: teams\nenergy: off\nmeasure: {MEASURE}\ndefaults: {{placement: chip}}\ncases:\n"
pytestmark = pytest.mark.skipif(machine.usable_cores() < 2, reason="a processor of one core cannot be divided")


def start(folder, *words, device="cpu"):
    command = [sys.executable, "-m", "perwatt", "run", "suite.yaml", "--device", device, "--out", "out", *words]
    return subprocess.Popen(
        command, cwd=folder, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def run(folder, *words, device="cpu"):
    process = start(folder, *words, device=device)
    out, err = process.communicate(timeout=280)
    return process.returncode, out, err


def rows_of(folder):
    assert validate.check(folder / "out" / "results.csv") == []
    return csvfile.read(folder / "out" / "results.csv")


def of_run(folder):
    """Processes that a run in this folder started and that still run, by what they are."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get("PWD") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = " ".join(process.cmdline())
        except psutil.Error:
            continue
    return found


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)
    return value


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """One run in which a rank fails in every way."""
    folder = tmp_path_factory.mktemp("faults")
    cases = [
        "{workload: teamwork, params: {n: 0}, mode: replicate, impl: [good, raises, inaccurate, slow, killed]}",
        "{workload: teamwork, params: {n: 1}, impl: [meets, forsaken]}",
        f"{{workload: teamwork, params: {{n: 2}}, mode: replicate, impl: [hangs], measure: {SHORT}}}",
        f"{{workload: teamwork, params: {{n: 3}}, impl: [absent], measure: {SHORT}}}",
        "{workload: teamwork, params: {n: 4, rank: 0, after: 30}, mode: replicate, impl: [leaves, orphans]}",
    ]
    (folder / "suite.yaml").write_text(HEAD + "".join(f"  - {case}\n" for case in cases))
    ENV["PWD"] = str(folder)
    began = time.monotonic()
    code, out, err = run(folder, "--nproc", "2", "--json")
    assert time.monotonic() - began < 280
    return folder, code, json.loads(out), err


def test_a_rank_that_fails_costs_one_row(faults):
    folder, code, _, _ = faults
    assert [(row.case.split()[1], row.impl, row.status) for row in rows_of(folder)] == [
        ("n=0", "good", "ok"), ("n=0", "raises", "crashed"), ("n=0", "inaccurate", "inaccurate"),
        ("n=0", "slow", "ok"), ("n=0", "killed", "rank_failed"),
        ("n=1", "meets", "ok"), ("n=1", "forsaken", "rank_failed"),
        ("n=2", "hangs", "rank_failed"), ("n=3", "absent", "rank_failed"),
        ("n=4", "leaves", "rank_failed"), ("n=4", "orphans", "rank_failed"),
    ]  # fmt: skip
    assert code == 1


@pytest.mark.parametrize(
    ("impl", "words"),
    [
        ("raises", ["rank 1: ValueError: teamwork in two lines"]),
        ("inaccurate", ["on rank 1: the error exceeds its bound"]),
        ("killed", ["rank 1 killed by SIGKILL"]),
        ("hangs", ["rank 1 hangs in hangs (faulty/teamwork.py:", "rank 0 waits", "timeout_s = 5"]),
        ("absent", ["rank 1 hangs in hangs (faulty/teamwork.py:", "rank 0 waits", "timeout_s = 5"]),
        ("forsaken", ["rank 1 gave up: ValueError: teamwork in two lines"]),
        ("leaves", ["rank 0 exited with code 1: teamwork: leaving"]),
        ("orphans", ["rank 0 exited with code 3"]),
    ],
)
def test_the_rank_and_its_reason_are_named(faults, impl, words):
    error = next(row.error for row in rows_of(faults[0]) if row.impl == impl)
    assert all(word in error for word in words), error
    assert "\n" not in error


def test_it_is_over_soon_after_the_timeout(faults):
    events = journal.read(faults[0] / "out" / "journal.jsonl")[0]
    before, late = {}, []
    for event in events:
        if event["event"] == "part" and "timeout_s" in event["part"].get("error", ""):
            late.append(event["t_s"] - before["t_s"])
        before = event
    assert len(late) == 2
    assert all(seconds < 5 + 30 for seconds in late)


def test_nothing_is_left_of_the_teams(faults):
    assert of_run(faults[0]) == {}


def test_copies_and_one_job_are_told_apart(faults):
    rows = {row.impl: row for row in rows_of(faults[0]) if row.status == "ok"}
    for row in rows.values():
        assert (row.placement, row.world_size, row.devices_used, row.devices_per_chip, row.chips) == (
            "chip",
            2,
            2,
            2,
            1.0,
        )
        assert row.tflops == pytest.approx(row.replicas * 1e6 / row.time_s / 1e12)
        assert row.tflops_per_chip == pytest.approx(row.tflops)
        assert row.tokens_per_s == pytest.approx(row.replicas * 10 / row.time_s)
    assert (rows["good"].mode, rows["good"].replicas, rows["good"].parallel) == ("replicate", 2, None)
    assert (rows["meets"].mode, rows["meets"].replicas, rows["meets"].parallel) == ("shard", 1, "together")
    assert rows["good"].path == "rank 0 of 2"


def test_a_rank_that_does_not_start_is_named_and_costs_the_rows_of_its_team(tmp_path):
    cases = ["{workload: teamwork, params: {n: 0}, impl: [good, slow]}", "{workload: teamwork, params: {n: 1}}"]
    (tmp_path / "suite.yaml").write_text(HEAD + "".join(f"  - {case}\n" for case in cases))
    began = time.monotonic()
    code, _, _ = run(tmp_path, "--nproc", "2", device="stillborn")
    assert [(row.status, row.impl) for row in rows_of(tmp_path)] == [
        ("rank_failed", "good"), ("rank_failed", "slow"), ("rank_failed", "good"),
    ]  # fmt: skip
    [error] = {row.error for row in rows_of(tmp_path)}
    assert "rank 1 exited with code 1" in error
    assert "OSError: the driver is older than the runtime" in error
    assert code == 3
    assert (tmp_path / "out" / "worker.log").read_text().count("Error: the driver is older") == 2  # tried twice, once
    assert time.monotonic() - began < 120


def test_a_straggler_is_named_and_sets_the_time(faults):
    rows = {row.impl: row for row in rows_of(faults[0]) if row.status == "ok"}
    slow = rows["slow"]
    assert (slow.slowest_rank, "straggler" in slow.flags.split()) == (1, True)
    assert slow.rank_spread > 0.5
    assert slow.time_s > 0.0079
    assert rows["good"].time_s < slow.time_s
    kept = {line["impl"]: line for line in samples.read(faults[0] / "out" / "samples.jsonl")}
    for line in kept.values():
        assert [len(times) for times in line["ranks"]] == [len(line["samples"])] * 2
        assert all(max(own) <= total * 1.0000001 for total, *own in zip(line["samples"], *line["ranks"], strict=True))


def test_placements_take_turns_and_a_run_that_is_killed_goes_on(tmp_path, monkeypatch):
    """A worker by itself, then a team, which does not outlive the orchestrator, and both again after a resume."""
    measure = "measure: {target_ci: 0.00001, min_samples: 20, max_time_s: 2}"
    cases = [
        "{workload: gemm, params: {m: 96, n: 96, k: 96}, placement: device}",
        "{workload: rmsnorm, params: {tokens: 96, hidden: 96}, pass: fwd+bwd}",
        f"{{workload: teamwork, params: {{n: 1}}, impl: [meets], {measure}}}",
        "{workload: gemm, params: {m: 64, n: 64, k: 64}, placement: node, measure: {bwd_method: difference}}",
    ]
    (tmp_path / "suite.yaml").write_text(HEAD + "".join(f"  - {case}\n" for case in cases))
    monkeypatch.setitem(ENV, "PWD", str(tmp_path))
    book = tmp_path / "out" / "journal.jsonl"
    process = start(tmp_path, "--nproc", "2")
    kinds = set()

    def third_begins():
        running = of_run(tmp_path).values()
        kinds.add(frozenset(word.split(".")[-1] for line in running for word in line.split() if "runner." in word))
        return book.exists() and book.read_text().count('"event":"case"') == 3 and "rank" in kinds_now(running)

    def kinds_now(running):
        return {word.split(".")[-1] for line in running for word in line.split() if "runner." in word}

    until(third_begins, 90)
    time.sleep(1.0)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    until(lambda: not of_run(tmp_path), 10)
    assert frozenset({"worker"}) in kinds
    assert not any({"worker", "team"} <= kind for kind in kinds)
    code, _, err = run(tmp_path, "--nproc", "2", "--resume")
    assert code == 0, err
    rows = rows_of(tmp_path)
    assert [(row.placement, row.world_size, row.status) for row in rows] == [
        ("device", 1, "ok"), ("chip", 2, "ok"), ("chip", 2, "ok"), ("node", 2, "ok"),
    ]  # fmt: skip
    assert rows[0].chips is None
    assert rows[0].peak_tflops is None
    assert [row.chips for row in rows[1:]] == [1.0, 1.0, 1.0]
    assert of_run(tmp_path) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--nproc", "2", "--placement", "device"],
            "--nproc: found 2, expected the devices of a placement (device takes 1): add --placement chip, or node",
        ),
        (["--nproc", "2", "--mode", "together"], "--mode: found 'together', expected one of replicate, shard"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, words, message):
    (tmp_path / "suite.yaml").write_text(HEAD + "  - {workload: teamwork, params: {n: 0}}\n")
    code, _, err = run(tmp_path, *words)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_no_more_hosts(tmp_path):
    (tmp_path / "suite.yaml").write_text(HEAD + "  - {workload: teamwork, params: {n: 0}}\n")
    assert run(tmp_path, "--placement", "cluster")[0] == 3
    assert "cannot be measured yet" in rows_of(tmp_path)[0].error


STEP = "params: {model: {hidden: 64, intermediate: 160, layers: 2, heads: 4, kv_heads: 2, vocab: 96}, batch: 4, seq: 16"
HEADLINE = f"""suite: headline in small
energy: off
measure: {MEASURE}
defaults: {{placement: chip, precision: bf16_master}}
cases:
  - {{workload: train_step, {STEP}, grad_accum: 2}}}}
  - {{workload: train_step, {STEP}, grad_accum: 2}}, parallel: ddp}}
"""


def test_a_step_over_two_ranks_is_the_work_and_the_data_of_one(tmp_path):
    """Losses and gradients of both passed the gate of the same answers; that they are equal, test_spread.py says."""
    found = {}
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        (folder / "suite.yaml").write_text(HEADLINE)
        code, _, err = run(folder, "--nproc", str(devices))
        assert code == 0, err
        found[devices] = rows_of(folder)
    (alone, again), (shards, copies) = found[1], found[2]
    for row in (shards, copies):
        assert (row.match_key, row.input_digest) == (alone.match_key, alone.input_digest)
        assert row.rel_err < row.rel_err_bound
        assert (row.mode, row.replicas, row.world_size, row.chips, row.micro_batch, row.grad_accum) == (
            "shard", 1, 2, 1.0, 2, 1,
        )  # fmt: skip
        assert row.tokens_per_s_per_chip == pytest.approx(64 / row.time_s)
    assert [row.parallel for row in (alone, again, shards, copies)] == [None, "ddp", "fsdp", "ddp"]
    assert (alone.micro_batch, alone.grad_accum) == (2, 2)
