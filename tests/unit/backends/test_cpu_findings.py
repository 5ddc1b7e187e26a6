"""What about a host is told, each with its remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from perwatt.backends import cpu_findings
from perwatt.finding import Finding
from perwatt.hardware import machine

MEMINFO = "MemTotal: 8000000 kB\nMemAvailable: {free} kB\n"
X86 = "processor: 0\nmodel name: Some CPU\nflags: fpu{flags}\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A quiet host with four cores."""
    monkeypatch.setattr(machine, "affinity", lambda: 4)
    monkeypatch.delenv(cpu_findings.THREADS, raising=False)
    lay(tmp_path, f"{machine.CPUS}/online", "0-3")
    lay(tmp_path, f"{machine.CPUS}/cpu0/cpufreq/scaling_governor", "performance")
    lay(tmp_path, "proc/meminfo", MEMINFO.format(free=7000000))
    lay(tmp_path, "proc/cpuinfo", X86.format(flags=""))
    return tmp_path


def lay(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def looked(root: Path, busy: float = 0.1) -> dict[str, Finding]:
    return {one.what: one for one in cpu_findings.findings(root, lambda: busy)}


def test_a_quiet_host_has_nothing_to_mend(root: Path) -> None:
    found = looked(root)
    assert {one.state for one in found.values()} == {"ok"}
    assert {one.remedy for one in found.values()} == {""}
    assert found["cores"].found == "this process may use all 4"
    assert found["governor"].found == "performance"


def test_other_work(root: Path) -> None:
    assert looked(root, busy=0.5)["other work"].state == "ok"
    found = looked(root, busy=0.6)["other work"]
    assert (found.state, found.found) == ("warning", "other work keeps 0.6 cores busy")
    assert found.remedy.startswith("stop it, or wait")


def test_governors(root: Path) -> None:
    lay(root, f"{machine.CPUS}/cpu1/cpufreq/scaling_governor", "powersave")
    found = looked(root)["governor"]
    assert (found.state, found.remedy) == ("warning", "sudo cpupower frequency-set -g performance")
    assert found.found.endswith("performance, powersave")


def test_cores_that_affinity_takes_away(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "affinity", lambda: 3)
    found = looked(root)["cores"]
    assert (found.state, found.found) == ("warning", "this process may use 3 of 4 cores (affinity 3)")


def test_cores_that_a_quota_takes_away(root: Path) -> None:
    lay(root, "proc/self/cgroup", "0::/\n")
    lay(root, "sys/fs/cgroup/cpu.max", "250000 100000")
    assert looked(root)["cores"].found == "this process may use 2 of 4 cores (affinity 4, quota 2.5)"


@pytest.mark.parametrize(
    ("asked", "state", "words"),
    [("4", "ok", ""), ("2", "warning", "cores idle"), ("8", "warning", "take turns"), ("many", "warning", "unset it"),
     ("0", "warning", "unset it")],
)  # fmt: skip
def test_threads(root: Path, monkeypatch: pytest.MonkeyPatch, asked: str, state: str, words: str) -> None:
    monkeypatch.setenv(cpu_findings.THREADS, asked)
    found = looked(root)["threads"]
    assert (found.state, bool(found.remedy)) == (state, state != "ok")
    assert words in found.remedy
    assert f"{cpu_findings.THREADS}={asked}" in found.found


def test_memory_that_others_hold(root: Path) -> None:
    lay(root, "proc/meminfo", MEMINFO.format(free=1900000))
    found = looked(root)["memory"]
    assert (found.state, found.found) == ("warning", "1.9 GB of 8.2 GB are free")


def test_a_limit_of_the_container(root: Path) -> None:
    lay(root, "proc/self/cgroup", "0::/\n")
    lay(root, "sys/fs/cgroup/memory.max", "4000000000")
    lay(root, "sys/fs/cgroup/memory.current", "500000000")
    lay(root, "sys/fs/cgroup/memory.stat", "inactive_file 0\n")
    found = looked(root)["memory"]
    assert (found.state, found.found) == ("ok", "3.5 GB of 4.0 GB, the container's limit are free")


def test_a_virtual_machine_is_told(root: Path) -> None:
    lay(root, "proc/cpuinfo", X86.format(flags=" hypervisor"))
    assert looked(root)["hypervisor"].found.startswith("a virtual machine")
