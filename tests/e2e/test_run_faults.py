"""What a run survives, and what it refuses. The impls that fail come from a package of somebody else's."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from perwatt.results import csvfile, validate
from perwatt.runner import journal

ROOT = Path(__file__).resolve().parents[2]
PATHS = [ROOT / "bench", ROOT / "kernels", ROOT / "tests" / "fakes" / "faulty"]
MAIN = [sys.executable, "-m", "perwatt"]
MEASURE = "{target_ci: 0.5, min_samples: 2, max_time_s: 0.2, cache: hot, timeout_s: 60}"
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PATHS)), "FAULTY_LOG": "", "COLUMNS": "120"}


def start(*words, cwd, **options):
    """A run in a process group of its own, as a shell would start it."""
    env = {**ENV, **options.pop("env", {})}
    return subprocess.Popen(
        [*MAIN, *words], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, **options,
    )  # fmt: skip


def perwatt(*words, cwd, **options):
    """Run to the end: exit code, standard output, standard error."""
    process = start(*words, cwd=cwd, **options)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def suite(folder, cases, measure=MEASURE, name="suite.yaml"):
    lines = [f"suite: faults\nmeasure: {measure}\ncases:"]
    for number, (impls, params) in enumerate(cases):
        fields = "".join(f", {key}: {value}" for key, value in params.items())
        lines.append(f"  - {{workload: faulty, impl: [{', '.join(impls)}], params: {{n: {number}{fields}}}}}")
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def rows_of(folder):
    assert validate.check(folder / "results.csv") == []
    return csvfile.read(folder / "results.csv")


def parts_of(folder):
    events = journal.read(folder / "journal.jsonl")[0]
    parts = [event["part"] for event in events if event["event"] == "part"]
    return [(part["case"], part["impl"], part.get("process", 0), part.get("round", 0)) for part in parts]


def until(condition, seconds, process=None):
    """Wait for something to become true while a process runs."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come true in time"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)
    return value


def alive(pids):
    """Those of the processes that still run; a zombie does not."""
    return [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """One run in which everything goes wrong that can."""
    folder = tmp_path_factory.mktemp("faults")
    cases = [
        (["good", "raises", "nan", "greedy", "forgetful", "refuses"], {}),
        (["good", "segfault", "leave", "killed", "orphan"], {}),
        (["good", "hang"], {}),
        (["good"], {"size_gb": 1e6}),
        (["good", "segfault", "good2"], {"after": 300}),
    ]
    measure = "{target_ci: 0.0001, min_samples: 2, max_time_s: 1, cache: hot, timeout_s: 10}"
    code, out, err = perwatt("run", suite(folder, cases, measure), "--out", "out", "--json", cwd=folder)
    return folder, code, json.loads(out), err


def test_the_sweep_goes_on_and_each_gets_its_status(faults):
    folder, code, out, _ = faults
    found = [(row.case.split()[1], row.impl, row.status) for row in rows_of(folder / "out")]
    assert found == [
        ("n=0", "good", "ok"), ("n=0", "raises", "crashed"), ("n=0", "nan", "inaccurate"), ("n=0", "greedy", "oom"),
        ("n=0", "forgetful", "oom"), ("n=0", "refuses", "unsupported"),
        ("n=1", "good", "ok"), ("n=1", "segfault", "crashed"), ("n=1", "leave", "crashed"),
        ("n=1", "killed", "crashed"), ("n=1", "orphan", "crashed"),
        ("n=2", "good", "ok"), ("n=2", "hang", "timeout"),
        ("n=3", "good", "unsupported"),
        ("n=4", "good", "ok"), ("n=4", "segfault", "crashed"), ("n=4", "good2", "ok"),
    ]  # fmt: skip
    assert code == 1
    assert out["exit_code"] == 1
    assert [(row["impl"], row["status"]) for row in out["rows"]] == [(impl, status) for _, impl, status in found]


@pytest.mark.parametrize(
    ("impl", "error"),
    [
        ("raises", "ValueError: faulty in two lines"),
        ("greedy", "DefaultCPUAllocator: can't allocate memory"),
        ("refuses", "not on Sundays"),
        ("segfault", "worker killed by SIGSEGV in string_at"),
        ("leave", "worker exited with code 7: faulty: leaving"),
        ("killed", "worker killed by SIGKILL"),
        ("orphan", "worker exited with code 3"),
        ("hang", "no result within timeout_s = 10"),
    ],
)
def test_each_failure_has_its_reason_in_one_line(faults, impl, error):
    folder = faults[0]
    errors = [row.error for row in rows_of(folder / "out") if row.impl == impl]
    assert errors
    assert all(error in text and "\n" not in text for text in errors)


def test_times_are_those_of_the_sleep(faults):
    timed = [row.time_s for row in rows_of(faults[0] / "out") if row.status == "ok"]
    assert all(0.001 <= time_s < 0.01 for time_s in timed)


def test_no_process_is_left(faults):
    lines = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline", "environ"])
             if (p.info["environ"] or {}).get("PWD") == str(faults[0])]  # fmt: skip
    assert not [line for line in lines if "perwatt.runner.worker" in line]


def test_what_a_folder_holds(faults):
    folder = faults[0] / "out"
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "env.json", "journal.jsonl", "results.csv", "samples.jsonl", "suite.yaml", "worker.log",
    }  # fmt: skip
    assert (folder / "suite.yaml").read_text() == (faults[0] / "suite.yaml").read_text()
    record = json.loads((folder / "env.json").read_text())
    assert record["env_id"] == rows_of(folder)[0].env_id
    assert os.environ.get("PATH", "?") not in (folder / "env.json").read_text()


def test_a_run_that_is_over_is_only_printed_again(faults):
    folder = faults[0]
    before = (folder / "out" / "journal.jsonl").read_bytes()
    rows = (folder / "out" / "results.csv").read_bytes()
    code, out, _ = perwatt("run", "suite.yaml", "--out", "out", "--resume", cwd=folder)
    assert (code, (folder / "out" / "journal.jsonl").read_bytes()) == (1, before)
    assert (folder / "out" / "results.csv").read_bytes() == rows
    assert "5 of 17 rows ok, 2 unsupported, 1 inaccurate, 2 oom, 1 timeout, 6 crashed" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["suite.yaml"], "go on with it by --resume, or name another folder"),
        (["suite.yaml", "--resume", "--seed", "1"], "--seed: cannot resume: found 1, expected 0"),
        (["suite.yaml", "--resume", "--aa"], "--aa: cannot resume: found True, expected False"),
        (["suite.yaml", "--resume", "--processes", "2"], "--processes: cannot resume: found 2, expected None"),
        (["other.yaml", "--resume"], "SUITE: cannot resume: cases of the suite have changed since"),
        (["smoke", "--resume"], "SUITE: cannot resume: found 'smoke', expected 'faults'"),
    ],
)
def test_a_folder_of_another_run_is_refused(faults, words, message):
    folder = faults[0]
    suite(folder, [(["good"], {})], name="other.yaml")
    before = (folder / "out" / "journal.jsonl").read_bytes()
    code, out, err = perwatt("run", *words, "--out", "out", cwd=folder)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("error: out: ")
    assert message in err
    assert (folder / "out" / "journal.jsonl").read_bytes() == before


def test_a_run_in_another_environment_is_not_gone_on_with(tmp_path):
    path = suite(tmp_path, [(["good"], {}), (["good2"], {})])
    assert perwatt("run", path, "--out", "out", cwd=tmp_path)[0] == 0
    lines = (tmp_path / "out" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out" / "journal.jsonl").write_bytes(b"".join(lines[:-2]))  # the last part and the end are gone
    code, _, err = perwatt("run", path, "--out", "out", "--resume", cwd=tmp_path, env={"MKL_DYNAMIC": "FALSE"})
    assert code == 2
    assert "cannot resume: variables.MKL_DYNAMIC: found 'FALSE', expected None" in err
    assert perwatt("run", path, "--out", "out", "--resume", cwd=tmp_path)[0] == 0
    assert len(rows_of(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nproc", "100000"], "--nproc: found 100000, expected 1 to "),
        (["--nproc", "0"], "0 is not in the range"),
        (["--mode", "shard"], "--mode: found 'shard', expected replicate: no workload of the suite can be sharded"),
        (["--mode", "both"], "--mode: found 'both', expected one of replicate, shard"),
        (["--budget", "5"], "--budget: found '5', expected a time such as 90s, 20m or 1.5h"),
        (["--resume"], "--resume: needs the folder to go on in: give it with --out"),
        (["--placement", "chips"], "--placement: found 'chips', expected one of chip, cluster, device, node"),
        (["--device", "tpu"], "--device: found 'tpu', expected one of auto, cpu"),
        (["--out", "suite.yaml"], "suite.yaml: cannot be written (file exists)"),
        (["--out", "suite.yaml/below"], "cannot be written (not a directory)"),
        (["--out", "/proc/perwatt"], "/proc/perwatt: cannot be written"),
        (["--processes", "0"], "0 is not in the range"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(tmp_path, words, message):
    path = suite(tmp_path, [(["good"], {})])
    code, out, err = perwatt("run", path, *words, cwd=tmp_path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["suite.yaml"]


def test_a_device_that_does_not_start_ends_the_run(tmp_path):
    path = suite(tmp_path, [(["good"], {}), (["refuses"], {})])
    code, out, err = perwatt("run", path, "--device", "stillborn", "--out", "out", cwd=tmp_path)
    assert (code, out) == (3, "")
    assert err.splitlines()[-1] == (
        "error: the stillborn worker does not start: worker exited with code 1: "
        "OSError: the driver is older than the runtime"
    )
    assert (tmp_path / "out" / "worker.log").read_text().count("Traceback") == 2  # it was tried twice


def test_nothing_ok_is_exit_code_3(tmp_path):
    path = suite(tmp_path, [(["refuses"], {}), (["good"], {"size_gb": 1e6})])
    code, out, _ = perwatt("run", path, "--out", "out", cwd=tmp_path)
    assert code == 3
    assert "0 of 2 rows ok, 2 unsupported" in out


def test_the_parent_never_imports_torch_or_pandas(tmp_path):
    path = suite(tmp_path, [(["good"], {})])
    script = f"""
import sys
from perwatt.cli import main
try:
    main(["run", {path!r}, "--out", "out"])
except SystemExit as done:
    print("code", done.code, sorted({{"torch", "pandas", "scipy"}} & set(sys.modules)))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=ENV, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "code 0 []"


def test_budget_is_kept_and_what_could_not_be_begun_is_named(tmp_path):
    measure = "{target_ci: 0.000001, min_samples: 2, max_time_s: 2, cache: hot}"
    path = suite(tmp_path, [(["good"], {}), (["good2"], {})], measure)
    assert perwatt("run", path, "--out", "out", "--budget", "12s", cwd=tmp_path)[0] == 0
    events = journal.read(tmp_path / "out" / "journal.jsonl")[0]
    took = max(event["t_s"] for event in events if event["event"] == "part")
    assert took < 12 + 1  # a visit may take a little longer than those before it
    rounds = {key[3] for key in parts_of(tmp_path / "out")}
    assert max(rounds) >= 1
    assert [row.processes for row in rows_of(tmp_path / "out")] == [1, 1]
    code, out, _ = perwatt("run", path, "--out", "none", "--budget", "0.0001s", cwd=tmp_path)
    assert code == 3
    assert "2 skipped" in out


def test_restarts_are_processes_of_their_own(tmp_path):
    path = suite(tmp_path, [(["good"], {})])
    assert perwatt("run", path, "--out", "out", "--processes", "2", "--aa", cwd=tmp_path)[0] == 0
    (row,) = rows_of(tmp_path / "out")
    assert row.processes == 2
    assert 0 < row.noise_floor < float("inf")  # how great says the machine, not the harness
    assert "within_run_only" not in (row.flags or "")
    assert len(parts_of(tmp_path / "out")) == 2


def test_two_at_once_are_refused(tmp_path):
    path = suite(tmp_path, [(["good"], {"sleep_s": 0.5})], "{max_time_s: 60, timeout_s: 120, target_ci: 1.0e-9}")
    first = start("run", path, "--out", "out", cwd=tmp_path)
    try:
        until((tmp_path / "out" / "journal.jsonl").exists, 60, first)
        code, _, err = perwatt("run", path, "--out", "out", "--resume", cwd=tmp_path)
        assert (code, err) == (2, f"error: out: in use by another run (process {first.pid})\n")
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_says_how_to_go_on(tmp_path, signum, code):
    measure = "{max_time_s: 5, target_ci: 1.0e-9, min_samples: 2}"
    path = suite(tmp_path, [(["good"], {}), (["good2"], {"sleep_s": 0.3})], measure)
    process = start("run", path, "--out", "out", "--seed", "3", cwd=tmp_path)
    until(lambda: (tmp_path / "out" / "journal.jsonl").exists() and parts_of(tmp_path / "out"), 60, process)
    workers = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signum)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (code, "")
    assert err.splitlines()[-1] == (
        f"stopped by {signum.name}; go on with: perwatt run {path} --out out --seed 3 --resume"
    )
    assert workers
    until(lambda: not alive(workers), 2)
    assert [row.impl for row in rows_of(tmp_path / "out")] == ["good"]


def test_a_worker_dies_with_its_parent(tmp_path):
    path = suite(tmp_path, [(["hang"], {})])
    process = start("run", path, "--out", "out", cwd=tmp_path, env={"FAULTY_LOG": str(tmp_path / "opened")})
    until((tmp_path / "opened").exists, 60, process)
    workers = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert len(workers) == 1
    process.kill()
    process.communicate()
    until(lambda: not alive(workers), 2)


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_repeat_nothing(tmp_path):
    """Whoever is killed, and whenever: what the journal had stays, and is never opened again."""
    chance, known = random.Random(20), []
    path = suite(tmp_path, [(["good", "good2"], {"sleep_s": 0.02}) for _ in range(40)])
    (tmp_path / "opened").write_text("")
    for kill in range(20):
        now, opened = _killed(tmp_path, path, kill, chance.uniform(0, 1.2))
        assert now[: len(known)] == known
        assert not {(case, impl) for case, impl, *_ in known} & set(opened)
        known = now
        if (tmp_path / "out" / "results.csv").exists():
            csvfile.read(tmp_path / "out" / "results.csv")
    assert 0 < len(known) < 80
    assert perwatt("run", path, "--out", "out", "--resume", cwd=tmp_path)[0] == 0
    parts = parts_of(tmp_path / "out")
    assert parts[: len(known)] == known
    assert len(parts) == len(set(parts)) == 80
    rows = [(row.match_key, row.impl) for row in rows_of(tmp_path / "out")]
    assert len(rows) == len(set(rows)) == 80


def _killed(folder, path, kill, after_s):
    """Go on with the run and kill it: parts in the journal then, and sessions that were opened."""
    log = folder / "opened"
    before = len(log.read_text().splitlines())
    process = start("run", path, "--out", "out", "--resume", cwd=folder, env={"FAULTY_LOG": str(log)})
    if kill % 4:  # every fourth at any moment from the first one on, the others while a worker is at work
        until(lambda: len(log.read_text().splitlines()) > before, 60, process)
    time.sleep(after_s)
    children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    if kill % 2:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()
    until(lambda: not alive(children), 2)
    parts = parts_of(folder / "out") if (folder / "out").exists() else []
    return parts, [tuple(line.split()) for line in log.read_text().splitlines()[before:]]


def test_a_limit_on_file_sizes_stops_the_run_and_loses_nothing(tmp_path):
    cases = [(["good"], {}) for _ in range(12)]
    path = suite(tmp_path, cases)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))

    code, out, err = perwatt("run", path, "--out", "out", cwd=tmp_path, preexec_fn=limit)
    assert (code, out) == (2, "")
    assert "cannot be written (file too large)" in err.splitlines()[-1]
    _stays_valid_and_goes_on(tmp_path, path, len(cases), None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path):
    cases = [(["good"], {}) for _ in range(12)]
    path = suite(tmp_path, cases)
    (tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(tmp_path / "disk")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        code, out, err = perwatt("run", path, "--out", "disk/out", cwd=tmp_path)
        assert (code, out) == (2, "")
        assert "cannot be written (no space left on device)" in err.splitlines()[-1]
        subprocess.run(["mount", "-o", "remount,size=4m", str(tmp_path / "disk")], check=True)
        _stays_valid_and_goes_on(tmp_path, path, len(cases), "disk/out")
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "disk")], check=True)


def _stays_valid_and_goes_on(tmp_path, path, cases, out):
    folder = tmp_path / (out or "out")
    before = parts_of(folder)
    assert (folder / "journal.jsonl").read_bytes().endswith(b"\n")
    assert before
    assert len(before) < cases
    assert perwatt("run", path, "--out", str(folder), "--resume", cwd=tmp_path)[0] == 0
    assert parts_of(folder)[: len(before)] == before
    assert len(rows_of(folder)) == cases
