"""The self-test's order, choice of tests, budget, and what its archive does not tell."""

from __future__ import annotations

import platform
import tarfile
from pathlib import Path
from typing import Any

import pytest

from perwatt.errors import InputError
from perwatt.selftest import bundle
from perwatt.selftest.plan import plan
from perwatt.selftest.process import Gone
from perwatt.selftest.session import Session


class Child:
    """Answers by the implementation's name; one that is asked for a third time is gone."""

    started = 0

    def __init__(self) -> None:
        type(self).started += 1
        self.environment = {"torch": "2.14"}
        self.asked = 0

    def ask(self, case: dict[str, Any], impl: str, timeout_s: float) -> dict[str, Any]:
        self.asked += 1
        if self.asked > 2:
            raise Gone("its process died: signal SIGSEGV")
        poisoned = case["params"]["product"] == "wgrad" and impl == "nki"
        return {"status": "failed" if poisoned else "ok", "error": "NCC_X" if poisoned else "", "poisoned": poisoned}

    def close(self, *, now: bool = False) -> int:
        return 0


def test_tiny_sizes_of_every_kernel_come_before_larger_ones_of_any() -> None:
    labels = [test.label for test in plan(["matmul/nki"])]
    assert labels[0] == "gemm 128x128x128 fwd bf16"
    assert labels[-1] == "gemm 8192x14336x4096 wgrad fwd bf16"
    kernels = [test.kernel for test in plan()]
    assert kernels.index("matmul/nki") < len(kernels) // 2


def test_a_simulation_has_the_sizes_that_it_can_do() -> None:
    assert {test.label for test in plan(["gemm"], simulated=True)} < {test.label for test in plan(["gemm"])}
    with pytest.raises(InputError, match="found 'nkl', expected one of"):
        plan(["nkl"])


def test_a_failure_is_followed_by_its_fallback_and_a_poisoned_child_by_another(tmp_path: Path) -> None:
    Child.started = 0
    tests = plan(["gemm 1x7x3"])
    session = Session(Child, timeout_s=1.0)  # type: ignore[arg-type]
    fwd, dgrad, wgrad = session.run(tests)
    assert [fwd.status, dgrad.status, wgrad.status] == ["ok", "ok", "gone"]
    assert (wgrad.fallback["impl"], wgrad.fallback["status"], wgrad.failed) == ("torch", "ok", True)
    assert "SIGSEGV" in wgrad.error
    assert Child.started == 2
    (poisoned,) = session.run(tests[2:])
    assert (poisoned.status, poisoned.error, poisoned.fallback["status"]) == ("failed", "NCC_X", "ok")
    assert Child.started == 4
    assert session.environment == {"torch": "2.14"}


def test_what_does_not_begin_in_the_budget_is_skipped() -> None:
    found = list(Session(Child, timeout_s=1.0, budget_s=-1.0).run(plan(["gemm 1x7x3"])))  # type: ignore[arg-type]
    assert {(one.status, one.failed) for one in found} == {("skipped", False)}


def test_the_archive_hides_where_and_whose_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    (folder / "compilers").mkdir(parents=True)
    said = f"{folder}/compilers/x on {platform.node()}: {bundle.__file__}\n"
    (folder / "log.txt").write_text("x" * bundle.MOST_BYTES + said)
    (folder / "compilers" / "log-neuron-cc.txt").write_text("NCC_EVRF051")
    (folder / "compilers" / "model.neff").write_bytes(b"program")
    archive = bundle.write(folder, [], {"host": "hashed"})
    with tarfile.open(archive) as packed:
        members = {info.name: info for info in packed}
        assert {info.uname for info in members.values()} == {""}
    assert set(members) == {
        "kit/log.txt",
        "kit/environment.json",
        "kit/results.jsonl",
        "kit/compilers/log-neuron-cc.txt",
    }
    text = (folder / "log.txt").read_text()
    assert "<selftest>/compilers/x on <host>: <perwatt>/selftest/bundle.py" in text
    assert len(text) <= bundle.MOST_BYTES
