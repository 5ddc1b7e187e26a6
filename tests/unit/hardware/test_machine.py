"""Facts about the host, from files that look like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perwatt.hardware import cgroup, machine

X86 = """\
processor\t: 0
model name\t: Intel(R) Xeon(R)  Platinum 8488C
flags\t\t: fpu hypervisor avx512f

processor\t: 1
model name\t: another
"""
ARM = """\
processor\t: 0
CPU implementer\t: 0x41
CPU part\t: 0xd4f

processor\t: 1
CPU implementer\t: 0x41
CPU part\t: 0xd4f
"""


def lay(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def test_processor_names(tmp_path: Path):
    assert machine.cpu_model(lay(tmp_path, {"proc/cpuinfo": X86})) == "Intel(R) Xeon(R) Platinum 8488C"
    assert machine.cpu_model(lay(tmp_path, {"proc/cpuinfo": ARM})).endswith("implementer 0x41 part 0xd4f")
    assert machine.cpu_model(tmp_path / "nothing")


def test_virtual_machines(tmp_path: Path):
    assert machine.virtual(lay(tmp_path, {"proc/cpuinfo": X86})) is True
    assert machine.virtual(lay(tmp_path, {"proc/cpuinfo": X86.replace(" hypervisor", "")})) is False
    assert machine.virtual(lay(tmp_path, {"proc/cpuinfo": ARM})) is None


def test_instance_type_only_on_ec2(tmp_path: Path):
    dmi = {f"{machine.DMI}/sys_vendor": "Amazon EC2", f"{machine.DMI}/product_name": "trn1.32xlarge"}
    assert machine.instance_type(lay(tmp_path, dmi)) == "trn1.32xlarge"
    assert machine.instance_type(lay(tmp_path, {f"{machine.DMI}/sys_vendor": "Another"})) is None
    assert machine.instance_type(tmp_path / "nothing") is None


def test_cores(tmp_path: Path):
    topology = {f"{machine.CPUS}/cpu{cpu}/topology/core_id": str(cpu // 2) for cpu in range(8)}
    topology |= {f"{machine.CPUS}/cpu{cpu}/topology/physical_package_id": str(cpu // 4) for cpu in range(8)}
    lay(tmp_path, {**topology, f"{machine.CPUS}/online": "0-3,6-7"})
    assert machine.logical_cores(tmp_path) == 6
    assert machine.physical_cores(tmp_path) == 4
    assert machine.physical_cores(tmp_path / "nothing") is None
    assert machine.logical_cores(tmp_path / "nothing") == os.cpu_count()


def test_memory(tmp_path: Path):
    lay(tmp_path, {"proc/meminfo": "MemTotal:  1000 kB\nMemAvailable:  600 kB"})
    assert machine.memory_total(tmp_path) == machine.memory_limit(tmp_path) == 1000 * 1024
    assert machine.memory_available(tmp_path) == 600 * 1024
    assert machine.memory_total(tmp_path / "nothing") == machine.memory_total()


def test_clocks(tmp_path: Path):
    assert machine.governors(tmp_path) == []
    assert machine.turbo(tmp_path) is None
    names = {
        f"{machine.CPUS}/cpu{cpu}/cpufreq/scaling_governor": g for cpu, g in enumerate(["powersave", "performance"])
    }
    lay(tmp_path, {**names, f"{machine.CPUS}/cpufreq/boost": "1"})
    assert machine.governors(tmp_path) == ["performance", "powersave"]
    assert machine.turbo(tmp_path) is True
    assert machine.turbo(lay(tmp_path, {f"{machine.CPUS}/intel_pstate/no_turbo": "1"})) is False


def test_load(tmp_path: Path):
    assert machine.load_average(lay(tmp_path, {"proc/loadavg": "1.50 0.2 0.1 1/100 7"})) == 1.5
    assert machine.load_average(tmp_path / "nothing") is None


def test_busy_cores():
    assert 0 <= machine.busy_cores(0.05) <= machine.logical_cores()


def test_shared_caches_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    for cpu in range(8):
        folder = f"{machine.CPUS}/cpu{cpu}/cache"
        lay(
            tmp_path,
            {f"{folder}/index0/{n}": t for n, t in (("level", "1"), ("size", "48K"), ("shared_cpu_list", f"{cpu}"))},
        )
        shared = f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}"
        lay(
            tmp_path,
            {f"{folder}/index3/{n}": t for n, t in (("level", "3"), ("size", "32M"), ("shared_cpu_list", shared))},
        )
    assert machine.last_level_cache(tmp_path) == 2 * 32 * 2**20
    assert machine.last_level_cache(tmp_path / "nothing") == machine.CACHE_UNKNOWN


@pytest.mark.parametrize(
    ("quota", "cores"), [("100000 100000", 1), ("250000 100000", 2), ("50000 100000", 1), ("max 100000", 4)]
)
def test_usable_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    lay(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": quota})
    assert machine.usable_cores(tmp_path) == cores


def test_the_tightest_group_around_a_process_counts(tmp_path: Path):
    lay(tmp_path, {
        "proc/self/cgroup": "0::/a/b",
        "proc/meminfo": "MemTotal:  10000000 kB\nMemAvailable:  9000000 kB",
        "sys/fs/cgroup/memory.max": "9000",  # of the root of the mount, which counts too
        "sys/fs/cgroup/a/memory.max": "5000", "sys/fs/cgroup/a/memory.current": "4000",
        "sys/fs/cgroup/a/memory.stat": "anon 100\ninactive_file 1500",
        "sys/fs/cgroup/a/b/memory.max": "max", "sys/fs/cgroup/a/b/memory.current": "10",
        "sys/fs/cgroup/a/cpu.max": "150000 100000", "sys/fs/cgroup/a/b/cpu.max": "400000 100000",
    })  # fmt: skip
    assert cgroup.memory_limit(tmp_path) == machine.memory_limit(tmp_path) == 5000
    assert cgroup.memory_available(tmp_path) == machine.memory_available(tmp_path) == 5000 - (4000 - 1500)
    assert cgroup.cpu_quota(tmp_path) == 1.5


def test_groups_of_version_1(tmp_path: Path):
    lay(tmp_path, {
        "proc/self/cgroup": "5:cpu,cpuacct:/c\n4:memory:/m\n0::/",
        "sys/fs/cgroup/memory/m/memory.limit_in_bytes": "7000", "sys/fs/cgroup/memory/m/memory.usage_in_bytes": "2000",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us": "300000", "sys/fs/cgroup/cpu/c/cpu.cfs_period_us": "100000",
    })  # fmt: skip
    assert cgroup.memory_limit(tmp_path) == 7000
    assert cgroup.memory_available(tmp_path) == 5000
    assert cgroup.cpu_quota(tmp_path) == 3.0


def test_no_limit_is_none(tmp_path: Path):
    lay(tmp_path, {
        "proc/self/cgroup": "5:cpu:/c\n4:memory:/", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/c/cpu.cfs_period_us": "100000",
    })  # fmt: skip
    for root in (tmp_path, tmp_path / "nothing"):
        assert (cgroup.memory_limit(root), cgroup.memory_available(root), cgroup.cpu_quota(root)) == (None, None, None)


def test_this_machine_makes_sense():
    assert 1 <= machine.usable_cores() <= machine.affinity() <= machine.logical_cores()
    assert 0 < machine.memory_available() <= machine.memory_total()
    assert machine.memory_limit() <= machine.memory_total()
    assert machine.last_level_cache() >= 2**18
