"""What is refused before anything runs, and the exit code. Runs are in tests/e2e/test_run_faults.py."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from perwatt import backends
from perwatt.backends import autocast
from perwatt.errors import InputError
from perwatt.runner import session
from perwatt.runner.folder import Folder
from perwatt.runner.session import Request, Result
from perwatt.spec import suite as suites

GEMM = "{workload: gemm, params: {m: 8, n: 8, k: 8}, impl: [torch]"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose orchestrator finds nothing to do."""
    monkeypatch.setattr(session, "Orchestrator", lambda *_: SimpleNamespace(run=lambda: None))
    path = tmp_path / "suite.yaml"
    path.write_text(f"suite: s\ncases:\n  - {GEMM}}}\n  - {GEMM}, placement: chip}}\n")

    def run(**fields):
        request = Request(suite=str(path), out=tmp_path / "out", **fields)
        return session.run(request, lambda title, cases: nullcontext())

    return run


def test_a_fresh_folder_gets_suite_journal_and_results(run, tmp_path):
    done = run()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {".lock", "journal.jsonl", "suite.yaml", "results.csv", "samples.jsonl"}
    assert done.rows == []
    assert done.run_id in (tmp_path / "out" / "journal.jsonl").read_text()


def test_a_resumed_run_keeps_its_id(run):
    assert run(resume=True).run_id == run(resume=True).run_id


def test_comments_of_a_suite_may_change(run, tmp_path):
    before = run()
    path = tmp_path / "suite.yaml"
    path.write_text("# a word\n" + path.read_text())
    assert run(resume=True).run_id == before.run_id


def test_two_cases_that_a_placement_makes_the_same(run, tmp_path):
    with pytest.raises(InputError, match="--placement: found 'chip', on which two cases of the suite are the same"):
        run(placement="chip")
    assert not (tmp_path / "out").exists()


def test_a_journal_of_something_else(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "journal.jsonl").write_text('{"event":"login"}\n')
    for resume in (False, True):
        with pytest.raises(InputError, match="found events but no run"):
            run(resume=resume)
    assert (tmp_path / "out" / "journal.jsonl").read_text() == '{"event":"login"}\n'


def test_a_torn_first_line_is_begun_anew(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "journal.jsonl").write_text('{"event":"run","run_id":"x"')
    assert run().run_id != "x"


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        (["ok"], 0), (["ok", "unsupported", "skipped"], 0), (["ok", "unstable"], 1), (["ok", "oom"], 1),
        (["ok", "inaccurate"], 1), (["ok", "timeout"], 1), (["ok", "crashed"], 1), (["ok", "rank_failed"], 1),
        (["crashed"], 3), (["unsupported", "skipped"], 3), (["unstable"], 3), ([], 3),
    ],
)  # fmt: skip
def test_exit_codes(statuses, code):
    rows = [SimpleNamespace(status=status) for status in statuses]
    assert Result(run_id="r", folder=Folder(Path("x")), rows=rows).exit_code == code


def suite_of(tmp_path, *precisions):
    (tmp_path / "s.yaml").write_text(
        "suite: s\ncases:\n  - workload: gemm\n    params: {m: 8, n: 8, k: 8}\n"
        f"    sweep: {{precision: [{', '.join(precisions)}]}}\n"
    )
    return suites.load(str(tmp_path / "s.yaml"))


def test_a_suite_is_bound_to_the_op_list_of_its_backend(tmp_path, monkeypatch):
    monkeypatch.setattr(autocast, "asked", lambda backend: {"linear fp32": f"seen on {backend.name}"})
    plain = suite_of(tmp_path, "bf16", "bf16_autocast")
    bound, ops = session.bound(plain, backends.available()["cpu"])
    assert ops == {"linear fp32": "seen on cpu"}
    assert [case.precision.autocast_ops for case in bound.cases] == ["", autocast.key_of(ops)]
    keys = [[case.match_key for case in suite.cases] for suite in (plain, bound)]
    assert keys[0][0] == keys[1][0]
    assert keys[0][1] != keys[1][1]


@pytest.mark.parametrize("unable", [False, True])
def test_no_list_is_asked_for_that_nothing_needs(tmp_path, monkeypatch, unable):
    def asked(backend):
        raise AssertionError("asked")

    monkeypatch.setattr(autocast, "asked", asked)
    cpu = backends.available()["cpu"]
    if unable:
        monkeypatch.setattr(type(cpu), "unsupported", lambda self, precision: "no")
    plain = suite_of(tmp_path, "bf16_autocast" if unable else "fp8_row")
    assert session.bound(plain, cpu) == (plain, {})


def test_a_run_goes_on_only_where_autocast_does_the_same(run, tmp_path, monkeypatch):
    path = tmp_path / "suite.yaml"
    path.write_text(path.read_text().replace("impl: [torch]", "precision: bf16_autocast"))
    ops = {"linear fp32": "bf16 -> bf16"}
    monkeypatch.setattr(autocast, "asked", lambda backend: dict(ops))
    run()
    run(resume=True)
    ops["linear fp32"] = "fp32 -> fp32"
    with pytest.raises(InputError, match="cannot resume") as refused:
        run(resume=True)
    assert refused.value.field == "autocast"
