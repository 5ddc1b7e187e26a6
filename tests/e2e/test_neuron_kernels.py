"""Kernels in NKI, and AWS's own, through torch on a stand-in machine: rows, falling back, and the self-test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Perwatt
from fakes.neuron.machine import Machine
from perwatt.results import csvfile, validate

NATIVE = ("2.13", "2.14")
FAKES = Path(__file__).resolve().parents[1] / "fakes"
native = pytest.mark.skipif(
    not torch.__version__.startswith(NATIVE), reason=f"the native torch-neuronx is for torch {' and '.join(NATIVE)}"
)
SUITE = """
suite: kernels
defaults: {precision: bf16}
measure: {target_ci: 0.9, min_samples: 2, max_time_s: 0.1, sample_time_s: 0.0, cache: hot, processes: 1, timeout_s: 60}
energy: off
cases:
  - {workload: gemm, params: {m: 33, n: 20, k: 24}, sweep: {product: [fwd, dgrad, wgrad]}, impl: [nki]}
  - {workload: gemm, params: {m: 33, n: 20, k: 24}, precision: fp8_row_ieee_outside, impl: [nki]}
  - {workload: gemm, params: {m: 33, n: 20, k: 24}, pass: fwd+bwd, impl: [auto]}
  - {workload: gemm, params: {m: 16, n: 16, k: 16, batch: 2}, impl: [nki, auto]}
  - {workload: attention, params: {heads: 2, kv_heads: 1, seq: 40, head_dim: 16}, pass: fwd+bwd, impl: [nki]}
  - {workload: attention, params: {heads: 2, seq: 128, head_dim: 16}, pass: fwd+bwd, impl: [nkilib, sdpa-nki]}
"""


def on(machine: Machine, *arguments: str | Path, **said: str) -> subprocess.CompletedProcess[str]:
    """``perwatt`` on a machine, in its folder."""
    cache = {"XDG_CACHE_HOME": str(machine.folder / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "perwatt", *map(str, arguments)], cwd=machine.folder, capture_output=True, text=True,
        env={**os.environ, **machine.environment(), **cache, **said}, timeout=240, check=False,
    )  # fmt: skip


@native
def test_rows_name_the_kernel_that_ran_or_why_none_did(neuron_machine: Callable[..., Machine]) -> None:
    machine = neuron_machine()
    (machine.folder / "suite.yaml").write_text(SUITE)
    done = on(machine, "run", "suite.yaml", "--device", "neuron", "--out", "out")
    results = machine.folder / "out" / "results.csv"
    assert results.exists(), done.stderr
    assert validate.check(results) == []
    *products, narrow, layer, batch, fell, attention, library, rewritten = csvfile.read(results)
    for row in (*products, narrow, layer, attention, library):
        assert row.status == "ok", row.error
        assert 0 < row.rel_err <= row.rel_err_bound
        assert row.path.startswith("perwatt::")
        assert "framework_path" not in (row.flags or "")
    assert {row.path for row in products} == {"perwatt::nki_matmul"}
    assert layer.path == "perwatt::nki_matmul (nki, by rule)"
    assert "unmeasured_choice" in layer.flags.split()
    assert narrow.path == "perwatt::nki_matmul_fp8"
    assert {row.impl_class for row in (*products, narrow, layer, attention, library)} == {"kernel"}
    assert fell.impl_class == "eager"
    assert attention.path == "perwatt::nki_attention perwatt::nki_attention_backward"
    assert library.path == "perwatt::nkilib_attention perwatt::nkilib_attention_backward"
    assert (batch.status, batch.error) == (
        "unsupported", "found a batch of 2, expected 1: the kernel does one product",
    )  # fmt: skip
    assert fell.status == "ok"
    assert "framework_path" in fell.flags.split()
    assert fell.path == "bmm (torch, as nki refuses: found a batch of 2, expected 1: the kernel does one product)"
    assert rewritten.error == "found q_len 128, expected a multiple of 512 for the rewrite; nearest 512"


def selftest_of(out: Path) -> dict[str, dict[str, Any]]:
    lines = (out / "results.jsonl").read_text().splitlines()
    return {f"{one['kernel']} {one['label']}": one for one in map(json.loads, lines)}


@native
def test_a_selftest_survives_kernels_that_fail_hang_and_die(neuron_machine: Callable[..., Machine]) -> None:
    machine = neuron_machine()
    path = os.pathsep.join([str(FAKES / "planted"), machine.environment()["PYTHONPATH"]])
    only = ("--only", "planted", "--only", "gemm 1x7x3 wgrad")
    done = on(machine, "kernels", "selftest", "--out", "kit", "--timeout", "8s", *only, PYTHONPATH=path)
    found = selftest_of(machine.folder / "kit")
    statuses = {name.split()[0]: one["status"] for name, one in found.items()}
    assert statuses == {
        "matmul/planted-wrong": "inaccurate", "matmul/planted-raises": "failed", "matmul/planted-hangs": "gone",
        "matmul/planted-dies": "gone", "matmul/nki": "ok",
    }, done.stderr  # fmt: skip
    assert done.returncode == 1
    planted = {name.split()[0].rpartition("-")[2]: one for name, one in found.items() if "planted" in name}
    assert "no answer in 8 s" in planted["hangs"]["error"]
    assert "exit code 7" in planted["dies"]["error"]
    assert planted["raises"]["error"].startswith("ValueError: planted in ")
    for one in planted.values():
        assert one["fallback"]["status"] == "ok"
        assert one["fallback"]["impl"] == "torch"
    for words in ("gemm 8x8x8 fwd fp32", "differs from float64", "instead torch: ok", "send back"):
        assert words in done.stdout
    with tarfile.open(machine.folder / "kit.tar.gz") as archive:
        texts = {info.name: archive.extractfile(info).read().decode() for info in archive if info.isfile()}
    assert {"kit/results.jsonl", "kit/environment.json", "kit/log.txt"} <= texts.keys()
    record = json.loads(texts["kit/environment.json"])
    assert (record["lnc"], record["simulated"], record["libraries"]["nki"]) == (2, None, "0.7.0")
    assert "and a second line" in texts["kit/log.txt"]
    for text in texts.values():
        assert str(machine.folder) not in text


@native
def test_a_selftest_tells_whether_graphs_take_a_kernel(neuron_machine: Callable[..., Machine]) -> None:
    """The older source's ``nki_op`` traces the function, and does not see a kernel that it calls bare."""
    machine = neuron_machine()
    done = on(machine, "kernels", "selftest", "--out", "kit", "--only", "gemm 128x128x128 fwd bf16")
    found = selftest_of(machine.folder / "kit")
    assert {name: one["status"] for name, one in found.items()} == {
        "matmul/nki gemm 128x128x128 fwd bf16": "ok", "matmul/nki compiled gemm 128x128x128 fwd bf16": "failed",
    }, done.stderr  # fmt: skip
    (compiled,) = [one for name, one in found.items() if "compiled" in name]
    assert "which the compiler does not trace" in compiled["error"] + (machine.folder / "kit" / "log.txt").read_text()
    assert (compiled["fallback"]["status"], done.returncode) == ("ok", 1)


def test_a_selftest_without_a_chip_is_told_of_the_simulation(perwatt: Perwatt) -> None:
    done = perwatt("kernels", "selftest")
    assert (done.returncode, done.stdout) == (3, "")
    assert "no Neuron driver" in done.stderr
    assert "--device cpu does the small sizes in the interpreter" in done.stderr


def test_the_small_sizes_pass_in_the_interpreter(perwatt: Perwatt, tmp_path: Path) -> None:
    only = ("--only", "gemm 1x7x3", "--only", "1x3/1x1x128 full fwd+bwd")
    done = perwatt("kernels", "selftest", "--device", "cpu", "--target", "trn3", "--out", tmp_path / "kit", *only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {one["status"] for one in selftest_of(tmp_path / "kit").values()} == {"ok"}
    assert json.loads((tmp_path / "kit" / "environment.json").read_text())["simulated"] == "trn3"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "matmul/nkj"), "--only: found 'matmul/nkj', expected one of"),
        (("--device", "cpu", "--out", "."), "--out: found ., which is not empty"),
    ],
)
def test_wrong_input_is_one_line(perwatt: Perwatt, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "something").touch()
    done = perwatt("kernels", "selftest", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_list_runs_nothing_and_has_every_kernel(perwatt: Perwatt) -> None:
    done = perwatt("kernels", "selftest", "--list", "--json")
    assert done.returncode == 0, done.stderr
    tests = json.loads(done.stdout)
    assert {test["kernel"] for test in tests} == {
        "matmul/nki",
        "matmul/nki compiled",
        "attention/nki",
        "attention/nkilib",
        "attention/sdpa-nki",
    }
    assert {test["label"] for test in tests} >= {
        "gemm 8192x14336x4096 wgrad fwd bf16", "attention 1x8/2x32768x128 causal fwd+bwd bf16",
    }  # fmt: skip
