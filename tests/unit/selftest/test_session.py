"""The self-test's order, choice of tests, budget, and what its archive does not tell."""

from __future__ import annotations

import json
import os
import platform
import signal
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perwatt import backends
from perwatt.cli import main
from perwatt.errors import InputError
from perwatt.selftest import bundle, child, session
from perwatt.selftest.plan import plan
from perwatt.selftest.process import Gone
from perwatt.selftest.session import MOST_STARTS, Session
from perwatt_kernels.matmul import nki_ops
from perwatt_kernels.nki_torch import site
from perwatt_kernels.nki_torch.site import Site


class Child:
    """Answers by the implementation's name; one that is asked for a third time is gone."""

    started = 0

    def __init__(self) -> None:
        type(self).started += 1
        self.environment = {"torch": "2.14"}
        self.asked = 0

    def ask(self, case: dict[str, Any], impl: str, timeout_s: float, *, compiled: bool = False) -> dict[str, Any]:
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
    kinds = {device: {test.kernel for test in plan(device=device)} for device in ("neuron", "cuda")}
    assert "matmul/nki" in kinds["neuron"] - kinds["cuda"]
    assert {"matmul/triton", "attention/triton", "attention/triton-atomic"} <= kinds["cuda"] - kinds["neuron"]
    assert {test.label for test in plan(["gemm"], simulated=True)} < {test.label for test in plan(["gemm"])}
    with pytest.raises(InputError, match="found 'nkl', expected one of"):
        plan(["nkl"])


def test_a_failure_is_followed_by_its_fallback_and_a_poisoned_child_by_another(tmp_path: Path) -> None:
    Child.started = 0
    tests = plan(["gemm 1x7x3"])
    running = Session(Child, timeout_s=1.0)  # type: ignore[arg-type]
    fwd, dgrad, wgrad = running.run(tests)
    assert [fwd.status, dgrad.status, wgrad.status] == ["ok", "ok", "gone"]
    assert (wgrad.fallback["impl"], wgrad.fallback["status"], wgrad.failed) == ("torch", "ok", True)
    assert "SIGSEGV" in wgrad.error
    assert Child.started == 2
    (poisoned,) = running.run(tests[2:])
    assert (poisoned.status, poisoned.error, poisoned.fallback["status"]) == ("failed", "NCC_X", "ok")
    assert Child.started == 4
    assert running.environment == {"torch": "2.14"}


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
    archive = bundle.write(folder, {"host": "hashed"})
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


class Lost:
    """A device that never comes back: its first child does three tests and hangs, and no other one starts."""

    def __init__(self, at_last: Callable[[], None] = lambda: None, refused: str = "") -> None:
        self.at_last, self.refused = at_last, refused  # which workload's tests are refused
        self.starts = self.asked = 0
        self.environment: dict[str, Any] = {}

    def __call__(self) -> Lost:
        self.starts += 1
        if self.starts > 1:
            raise Gone("no answer in 120 s, so it was ended")
        return self

    def ask(self, case: dict[str, Any], impl: str, timeout_s: float, *, compiled: bool = False) -> dict[str, Any]:
        self.asked += 1
        if self.asked > 3:
            self.at_last()
        if case["workload"] == self.refused:
            return {"status": "refused", "error": "nki is not installed"}
        return {"status": "ok", "error": "", "rel_err": 1e-3, "bound": 2e-3}

    def close(self, *, now: bool = False) -> int:
        return 0


def hang() -> None:
    raise Gone("no answer in 600 s, so it was ended")


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def fault() -> None:
    raise ValueError("a mistake of perwatt's own")


def selftest(monkeypatch: pytest.MonkeyPatch, device: Lost, folder: Path) -> tuple[int, list[str]]:
    """Exit code, and the statuses that the archive has."""
    folder.parent.mkdir(exist_ok=True)

    def start(address: str, target: str | None, lnc: int, work: Path) -> Lost:
        return device

    monkeypatch.setattr(session, "child", start)
    with pytest.raises(SystemExit) as ended:
        main(["kernels", "selftest", "--device", "cpu", "--only", "matmul/nki", "--out", str(folder)])
    with tarfile.open(folder.with_name(f"{folder.name}.tar.gz")) as packed:
        lines = packed.extractfile(f"{folder.name}/results.jsonl")
        assert lines is not None
        return ended.value.code, [json.loads(line)["status"] for line in lines.read().splitlines()]  # type: ignore[return-value]


def test_a_device_that_does_not_come_back_keeps_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device, tests = Lost(hang), plan(["matmul/nki"], simulated=True)
    code, statuses = selftest(monkeypatch, device, tmp_path / "kit")
    assert code == 1
    assert statuses == ["ok"] * 3 + ["gone"] * (len(tests) - 3)
    assert device.starts == 1 + MOST_STARTS
    assert "the device did not come back: no answer in 120 s" in capsys.readouterr().out


@pytest.mark.parametrize(("end", "code"), [(stop, 130), (fault, 1)])
def test_what_ends_it_leaves_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Callable[[], None], code: int
) -> None:
    assert selftest(monkeypatch, Lost(end), tmp_path / "kit") == (code, ["ok"] * 3)


def test_results_are_on_disk_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(len((tmp_path / "kit" / "results.jsonl").read_text().splitlines()))

    selftest(monkeypatch, Lost(look), tmp_path / "kit")
    assert seen[0] == 3


def test_a_device_that_never_starts_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Lost(hang)
    device.starts = 1
    assert selftest(monkeypatch, device, tmp_path / "kit") == (3, [])


def test_where_no_kernel_of_perwatts_ran_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though the vendor's do."""
    every = [replace(test, vendor=test.kernel.startswith("attention/")) for test in plan(["1x7x3", "1x1x128"])]
    monkeypatch.setattr("perwatt.selftest.plan.plan", lambda only, **how: every)
    code, statuses = selftest(monkeypatch, Lost(refused="gemm"), tmp_path / "kit")
    assert (code, set(statuses)) == (3, {"ok", "refused"})
    told = capsys.readouterr().err
    assert "warning: matmul/nki did not run: nki is not installed" in told
    assert "error: no kernel of perwatt ran" in told
    monkeypatch.setattr("perwatt.selftest.plan.plan", lambda only, **how: [one for one in every if one.vendor])
    assert selftest(monkeypatch, Lost(refused="gemm"), tmp_path / "of-the-vendor")[0] == 0


def test_what_a_launch_raises_is_no_refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """The dispatcher says by the same class that a device lacks an operation."""
    (test,) = [one for one in plan(["gemm 128x128x128 fwd bf16"]) if one.kernel == "matmul/nki"]

    def launcher(kernel: Any, site: Site) -> Callable[..., Any]:
        def launched(*args: Any) -> Any:
            raise NotImplementedError("Could not run 'perwatt::nki_matmul' with arguments from the 'neuron' backend")

        return launched

    monkeypatch.setattr(nki_ops, "launcher", launcher)
    nki_ops.product.cache_clear()
    request.addfinalizer(nki_ops.product.cache_clear)  # others register it again, with the true launcher
    with site.simulated("trn2", 2):
        backend = backends.addressed("cpu")
        backend.start()
        found = child.examine(test.case, test.impl, backend)
        assert found["status"] == "failed"
        assert found["error"].startswith("NotImplementedError: Could not run")
        assert "Traceback" in capsys.readouterr().err
        refused = child.examine(plan(["sdpa-nki"])[0].case, "sdpa-nki", backend)
        assert (refused["status"], refused["error"]) == ("refused", "sdpa-nki runs on neuron, not on cpu")


def test_a_compiled_kernel_is_a_test_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    (test,) = plan(["matmul/nki compiled"], simulated=True)
    given: list[object] = []
    with site.simulated("trn2", 2):
        backend = backends.addressed("cpu")
        backend.start()
        monkeypatch.setattr(backend, "compile", lambda function: given.append(function) or function)
        assert child.examine(test.case, test.impl, backend)["status"] == "ok"
        assert not given
        assert child.examine(test.case, test.impl, backend, compiled=test.compiled)["status"] == "ok"
    assert len(given) == 1
