"""`perwatt validate`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from perwatt.results import csvfile
from perwatt.results.published import shipped
from perwatt.results.schema import SCHEMA_VERSION, Row
from perwatt.spec import work

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]

SUITES = ("smoke", "gemm", "attention", "layers", "train", "headline", "full")
SUITE = "suite: a\ncases:\n  - {workload: gemm, params: {m: 1, n: 1, k: 1}, sweep: {precision: [fp32, bf16]}}\n"
WORK = {"workload": "gemm", "pass": "fwd", "precision": {"name": "fp32"}}


def row(**changes: object) -> Row:
    cells = {
        "schema_version": SCHEMA_VERSION, "run_id": "r", "started_at": "2026-01-02T03:04:05Z", "suite": "a", "seed": 0,
        "case": "c", "workload": "gemm", "pass_": "fwd", "precision": "fp32", "method": "direct", "impl": "torch",
        "work": work.canonical(WORK), "match_key": work.match_key(WORK), "task_key": work.task_key(WORK),
        "protocol_key": work.protocol_key(cache="", method="direct"), "impl_class": "eager", "backend": "cpu",
        "chip": "x", "placement": "device", "mode": "replicate", "replicas": 1, "world_size": 1, "devices_used": 1,
        "status": "ok", "time_s": 1.0, "time_evidence": "measured", "energy_evidence": "none", "power_source": "none",
    }  # fmt: skip
    return Row(**{**cells, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder in which everything is right."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "suite.yaml").write_text(SUITE)
    failed = {"status": "oom", "error": "memory ran out", "time_s": None}
    csvfile.write([row(), row(impl="b"), row(impl="c", **failed)], path / "results.csv")
    return path


def test_what_is_right_says_what_was_checked(perwatt: Perwatt, folder: Path):
    done = perwatt("validate", "run", "run/results.csv", "run/suite.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    results, suite = "results.csv: ok, 3 rows: 2 ok, 1 oom", "suite.yaml: ok, 2 cases, 2 rows"
    assert done.stdout.splitlines() == [f"run/{line}" for line in (results, suite, results, suite)]


def test_a_folder_of_csvs(perwatt: Perwatt, folder: Path):
    (folder / "results.csv").rename(folder / "one.csv")
    csvfile.write([row(), row(impl="b", chip="")], folder / "two.csv")
    done = perwatt("validate", "run")
    assert done.returncode == 2
    first, second, suite = done.stdout.splitlines()
    assert first == "run/one.csv: ok, 3 rows: 2 ok, 1 oom"
    assert suite == "run/suite.yaml: ok, 2 cases, 2 rows"
    assert second.startswith("run/two.csv:3: ")


def test_published_rows(perwatt: Perwatt):
    done = perwatt("validate", shipped.root())
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(shipped.names()) == done.stdout.count(": ok, ")


def test_shipped_suites_by_name(perwatt: Perwatt):
    done = perwatt("validate", *SUITES)
    assert done.returncode == 0, done.stdout
    assert [line.split(", ")[0] for line in done.stdout.splitlines()] == [
        f"{name}: ok" for name in SUITES
    ]  # fmt: skip


def test_what_is_wrong_is_one_line_each_and_exit_code_2(perwatt: Perwatt, folder: Path):
    csvfile.write([row(time_s=None), row(impl="b", flags="odd"), row(impl="c")], folder / "results.csv")
    (folder / "suite.yaml").write_text(SUITE.replace("k: 1", "kk: 1"))
    done = perwatt("validate", "run")
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert [line.partition(": found")[0] for line in lines] == [
        "run/results.csv:2: time_s", "run/results.csv:3: flags", "run/suite.yaml:3: cases[0].params.kk",
    ]  # fmt: skip


def test_one_wrong_file_does_not_hide_the_others(perwatt: Perwatt, folder: Path):
    done = perwatt("validate", "none.csv", "run/results.csv", "smok")
    assert done.returncode == 2
    first, second, third = done.stdout.splitlines()
    assert first == "none.csv: cannot be read: No such file or directory"
    assert second == "run/results.csv: ok, 3 rows: 2 ok, 1 oom"
    assert third.startswith("smok: suite: found 'smok', expected one of ")
    assert third.endswith("(did you mean 'smoke'?)")


@pytest.mark.parametrize("name", ["empty", "d.csv"])
def test_a_folder_of_nothing_says_what_was_looked_for(perwatt: Perwatt, tmp_path: Path, name: str):
    (tmp_path / name / "deeper").mkdir(parents=True)
    (tmp_path / name / "notes.txt").write_text("no result")
    done = perwatt("validate", name)
    expected = "found nothing to check, expected suites (.yaml), CSVs or the folders of runs"
    assert (done.returncode, done.stdout) == (2, f"{name}: {expected}\n")


def test_a_folder_of_suites(perwatt: Perwatt, folder: Path):
    (folder / "results.csv").unlink()
    (folder / "wrong.yaml").write_text(SUITE.replace("gemm", "gem"))
    right, wrong = perwatt("validate", "run").stdout.splitlines()
    assert right == "run/suite.yaml: ok, 2 cases, 2 rows"
    assert wrong.startswith("run/wrong.yaml:3: cases[0].workload: found 'gem', expected ")


def test_a_folder_of_runs(perwatt: Perwatt, folder: Path):
    done = perwatt("validate", ".")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "run/results.csv: ok, 3 rows: 2 ok, 1 oom", "run/suite.yaml: ok, 2 cases, 2 rows",
    ]  # fmt: skip


def ended(folder: Path, *impls: str) -> None:
    """A journal by which a run of these impls has ended with a row for each."""
    events = [{"event": "run", "run_id": "r"}, {"event": "case", "case": "c", "impls": dict.fromkeys(impls, "eager")}]
    events += [{"event": "skipped", "case": "c", "impl": impl, "reason": "no time"} for impl in impls]
    events.append({"event": "end"})
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def test_a_run_that_has_ended_has_all_rows_of_its_journal(perwatt: Perwatt, folder: Path):
    ended(folder, "torch", "b", "c")
    assert perwatt("validate", "run").returncode == 0
    lines = (folder / "results.csv").read_text().splitlines(keepends=True)
    (folder / "results.csv").write_text("".join(lines[:-1]))
    for given in ("run", "run/results.csv"):
        done = perwatt("validate", given)
        assert done.returncode == 2
        assert done.stdout.splitlines()[0] == "run/results.csv: found 2 rows, expected 3 as in journal.jsonl"


def test_a_run_that_has_ended_has_its_samples(perwatt: Perwatt, folder: Path):
    csvfile.write([row(samples_digest="0123456789abcdef")], folder / "results.csv")
    assert perwatt("validate", "run").returncode == 0, "a CSV alone needs none"
    ended(folder, "torch")
    done = perwatt("validate", "run")
    assert done.returncode == 2
    expected = "found no such file, expected the samples of 1 rows that have a samples_digest"
    assert done.stdout.splitlines()[0] == f"run/samples.jsonl: {expected}"


@pytest.mark.parametrize(("rows", "said"), [([row()], "1 rows: 1 ok"), ([], "0 rows")])
def test_an_unfinished_run_is_called_one(perwatt: Perwatt, folder: Path, rows: list[Row], said: str):
    csvfile.write(rows, folder / "results.csv")
    (folder / "journal.jsonl").write_text(json.dumps({"event": "run", "run_id": "r"}) + "\n")
    done = perwatt("validate", "run")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"run/results.csv: ok, unfinished run, {said}")


def test_samples_beside_the_results_count(perwatt: Perwatt, folder: Path):
    csvfile.write([row(samples_digest="0123456789abcdef")], folder / "results.csv")
    (folder / "samples.jsonl").write_text("")
    done = perwatt("validate", "run/results.csv")
    assert done.returncode == 2
    assert "samples_digest: samples.jsonl beside the file has no samples of this row" in done.stdout


def test_json(perwatt: Perwatt, folder: Path):
    csvfile.write([row(flags="odd")], folder / "results.csv")
    done = perwatt("validate", "run", "--json")
    assert done.returncode == 2
    results, suite = json.loads(done.stdout)
    assert suite == {
        "file": "run/suite.yaml", "kind": "suite", "ok": True, "checked": {"cases": 2, "rows": 2}, "problems": [],
    }  # fmt: skip
    assert (results["file"], results["kind"], results["ok"]) == ("run/results.csv", "results", False)
    (problem,) = results["problems"]
    assert (problem["file"], problem["line"], problem["field"]) == ("run/results.csv", 2, "flags")


def test_many_problems_are_cut_for_people(perwatt: Perwatt, folder: Path):
    csvfile.write([row(impl=f"i{n}", flags="odd") for n in range(60)], folder / "results.csv")
    assert perwatt("validate", "run/results.csv").stdout.splitlines()[50:] == [
        "run/results.csv: 10 more problems; --json shows all",
    ]
    assert len(json.loads(perwatt("validate", "run/results.csv", "--json").stdout)[0]["problems"]) == 60


def test_a_large_sweep_needs_yes(perwatt: Perwatt, tmp_path: Path):
    sizes = list(range(1, 103))
    (tmp_path / "a.yaml").write_text(
        f"suite: a\ncases:\n  - {{workload: gemm, params: {{k: 1}}, sweep: {{m: {sizes}, n: {sizes}}}}}\n"
    )
    refused = perwatt("validate", "a.yaml")
    assert refused.returncode == 2
    assert (
        refused.stdout == "a.yaml:3: cases[0].sweep: found 10,404 cases, expected at most 10,000 (--yes allows more)\n"
    )
    assert perwatt("validate", "a.yaml", "--yes").stdout == "a.yaml: ok, 10404 cases, 10404 rows\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: own\nbase: h200\n", "looks like a chip sheet, expected a suite: perwatt chips --chips ."),
        ("prices: []\n", "looks like a price list, expected a suite: PERWATT_PRICES=mine.yaml perwatt chips CHIP"),
    ],
)
def test_a_sheet_or_a_price_list_is_told_what_reads_it(perwatt: Perwatt, tmp_path: Path, text: str, line: str):
    (tmp_path / "mine.yaml").write_text(text)
    done = perwatt("validate", "mine.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (2, f"mine.yaml:1: {line}\n", "")
