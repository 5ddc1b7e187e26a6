"""``auto`` in a run: its row says what was chosen, by how much, and what failed; choices can be listed and shipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perwatt.results import csvfile, validate
from perwatt_kernels.choices import store
from perwatt_kernels.choices.answer import Answer
from perwatt_kernels.choices.question import Question

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]
FAKES = Path(__file__).resolve().parents[1] / "fakes"
SUITE = """
suite: choosing
defaults: {precision: fp32, impl: [auto, auto+graph]}
measure: {target_ci: 0.5, min_samples: 2, max_time_s: 0.2, cache: hot, timeout_s: 200}
cases:
  - {name: product, workload: gemm, params: {m: 48, n: 40, k: 32}}
  - {workload: attention, params: {heads: 2, seq: 24, head_dim: 16}, pass: fwd+bwd, impl: [auto]}
"""


@pytest.fixture
def run(perwatt: Perwatt, tmp_path: Path) -> Callable[..., list[csvfile.Row]]:
    (tmp_path / "suite.yaml").write_text(SUITE)

    def rows(out: str, *arguments: str, **environment: str) -> list[csvfile.Row]:
        own = {"PERWATT_CACHE": str(tmp_path / "own"), "CXX": "none"}  # a compiler would take most of the time
        done = perwatt("run", "suite.yaml", "--out", out, *arguments, **own, **environment)
        results = tmp_path / out / "results.csv"
        assert results.exists(), done.stderr
        assert validate.check(results) == []
        return csvfile.read(results)

    return rows


def test_the_row_says_what_was_chosen_and_a_later_run_takes_what_was_kept(
    run: Callable[..., list[csvfile.Row]], perwatt: Perwatt, tmp_path: Path
) -> None:
    for out, origin in (("first", "measured"), ("second", "kept")):
        product, graph, attention = run(out)
        assert graph.status == "unsupported"
        assert f", {origin})" in attention.path
        assert "fastest of" in attention.path
        for row in (product, attention):
            assert row.status == "ok", row.error
            assert "framework_path" in row.flags.split()
            assert row.impl_class == "eager"
        assert "(torch, the only one" in product.path
    listed = json.loads(perwatt("kernels", "choices", "--json", PERWATT_CACHE=str(tmp_path / "own")).stdout)
    assert {one["question"]["about"] for one in listed} == {"matmul", "attention"}
    (matmul,) = (one for one in listed if one["question"]["about"] == "matmul")
    assert matmul["question"]["shape"]["compute"] == "fp32"
    assert matmul["question"]["versions"]["torch"]
    assert matmul["answer"]["seconds"].keys() == {"torch"}


def test_kernels_that_are_wrong_raise_or_kill_the_process_are_passed_over(
    run: Callable[..., list[csvfile.Row]], tmp_path: Path
) -> None:
    planted = {"PYTHONPATH": os.pathsep.join([*sys.path, str(FAKES / "planted")]), "PLANTED": "wrong raises dies"}
    row = run("survived", "--only", "product", **planted)[0]
    assert row.status == "ok", row.error
    assert {"auto_skipped", "framework_path"} <= set(row.flags.split())
    for failure in (
        "planted-dies (the process ended while it was tried)", "planted-raises (ValueError: planted in ",
        "planted-wrong (its result is ",
    ):  # fmt: skip
        assert failure in row.path


def test_choices_are_shown_shipped_and_forgotten(
    perwatt: Perwatt, run: Callable[..., list[csvfile.Row]], tmp_path: Path
):
    own = {"PERWATT_CACHE": str(tmp_path / "own")}
    assert "choices (0)" in perwatt("kernels", "choices", **own).stdout
    run("out", "--only", "product")
    shown = perwatt("kernels", "choices", **own).stdout
    assert "compute=fp32" in shown
    assert "kept" in shown
    assert perwatt("kernels", "choices", "--ship", "shipped.json", **own).returncode == 0
    (entry,) = json.loads((tmp_path / "shipped.json").read_text())
    assert entry["question"]["about"] == "matmul"
    wrong = perwatt("kernels", "choices", "--about", "matmull", **own)
    assert (wrong.returncode, wrong.stderr) == (
        2, "error: --about: found 'matmull', expected matmul (did you mean 'matmul'?)\n",
    )  # fmt: skip
    assert perwatt("kernels", "choices", "--forget", **own).returncode == 0
    assert "choices (0)" in perwatt("kernels", "choices", **own).stdout


def test_what_is_shipped_names_no_place_on_this_machine(
    perwatt: Perwatt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERWATT_CACHE", str(tmp_path))
    why = f"InductorError: no {tmp_path}/x.py, nor /tmp/a-b/c.so: 3/4 of 8 GB/s"
    answer = Answer(chosen="a", seconds={"a": 1e-3}, failed={"b": why}, when="2026-01-01")
    store.keep(Question(about="op", shape={}, device="chip"), answer)
    assert perwatt("kernels", "choices", "--ship", "one.json", PERWATT_CACHE=str(tmp_path)).returncode == 0
    (entry,) = json.loads((tmp_path / "one.json").read_text())
    assert entry["answer"] == {**answer.message(), "failed": {"b": "InductorError: no ..., nor ...: 3/4 of 8 GB/s"}}


def test_what_cost_a_process_is_tried_again_once_choices_are_forgotten(
    perwatt: Perwatt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERWATT_CACHE", str(tmp_path))
    asked = {about: Question(about=about, shape={}, device="chip") for about in ("op", "op/kernel")}
    for question in asked.values():
        store.condemn(question, "tile", "an illegal memory access")
    assert store.deadly(asked["op"], "tile") == "an illegal memory access"
    assert perwatt("kernels", "choices", "--forget", PERWATT_CACHE=str(tmp_path)).returncode == 0
    assert [store.deadly(question, "tile") for question in asked.values()] == [None, None]
