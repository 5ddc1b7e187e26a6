"""Facts about the host: processor, cores, caches, memory, clocks, load. Unknown is None, never a guess.

Each function takes the root of the file system, so that tests can bring their own ``/proc`` and ``/sys``.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from perwatt.hardware import cgroup
from perwatt.hardware.cgroup import ROOT, read

CPUS = "sys/devices/system/cpu"
DMI = "sys/devices/virtual/dmi/id"
CACHE_UNKNOWN = 64 * 2**20  # taken where the kernel tells no cache size: larger than most, so that cold stays cold
BUSY = ("user", "nice", "system", "irq", "softirq", "steal")  # a process of low priority takes the caches all the same
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def cpu_model(root: Path = ROOT) -> str:
    """Name of the processor; on Arm, which names none, its implementer and part number."""
    fields = _cpuinfo(root)
    if name := fields.get("model name") or fields.get("Model"):
        return " ".join(name.split())
    if part := fields.get("CPU part"):
        return f"{platform.machine()} implementer {fields.get('CPU implementer', '?')} part {part}"
    return platform.processor() or platform.machine()


def instance_type(root: Path = ROOT) -> str | None:
    """EC2 instance type by the firmware's tables, or None elsewhere. Asks no metadata service."""
    return read(root / DMI / "product_name") if read(root / DMI / "sys_vendor") == "Amazon EC2" else None


def virtual(root: Path = ROOT) -> bool | None:
    """Whether a hypervisor runs below this kernel; only x86 tells."""
    flags = _cpuinfo(root).get("flags")
    return None if flags is None else "hypervisor" in flags.split()


def logical_cores(root: Path = ROOT) -> int:
    """Hardware threads that are online."""
    return len(_cpu_list(read(root / CPUS / "online") or "")) or os.cpu_count() or 1


def physical_cores(root: Path = ROOT) -> int | None:
    """Cores that are online, hardware threads of one core counted once."""
    pairs = {
        (read(folder / "topology/physical_package_id"), read(folder / "topology/core_id"))
        for folder in (root / CPUS).glob("cpu[0-9]*")
    }
    known = [pair for pair in pairs if None not in pair]
    return len(known) or None


def affinity() -> int:
    """Hardware threads this process may be scheduled on."""
    return len(os.sched_getaffinity(0))


def usable_cores(root: Path = ROOT) -> int:
    """Threads worth starting: affinity, cut to whole cores of the container's quota, at least one."""
    quota = cgroup.cpu_quota(root)
    return max(1, min(affinity(), int(quota) if quota else affinity()))


def last_level_cache(root: Path = ROOT) -> int:
    """Bytes of the last-level caches of the cores this process may use, each shared one counted once."""
    caches: dict[tuple[int, str], int] = {}
    for cpu in os.sched_getaffinity(0):
        for folder in (root / CPUS / f"cpu{cpu}/cache").glob("index*"):
            level, shared = read(folder / "level"), read(folder / "shared_cpu_list")
            if level and shared and (size := _bytes(read(folder / "size"))):
                caches[int(level), shared] = size
    last = max((level for level, _ in caches), default=0)
    return sum(size for (level, _), size in caches.items() if level == last) or CACHE_UNKNOWN


def memory_total(root: Path = ROOT) -> int:
    """Bytes of memory of the host."""
    return _meminfo(root, "MemTotal")


def memory_limit(root: Path = ROOT) -> int:
    """Bytes of memory this process may have: the host's, or the container's limit if smaller."""
    return min(memory_total(root), cgroup.memory_limit(root) or memory_total(root))


def memory_available(root: Path = ROOT) -> int:
    """Bytes that can be had now without swapping, on the host and in the container."""
    inside = cgroup.memory_available(root)
    return min(_meminfo(root, "MemAvailable"), _meminfo(root, "MemTotal") if inside is None else inside)


def governors(root: Path = ROOT) -> list[str]:
    """Frequency governors in force; empty where the kernel sets no clocks, as in most virtual machines."""
    paths = (root / CPUS).glob("cpu[0-9]*/cpufreq/scaling_governor")
    return sorted({name for path in paths if (name := read(path))})


def turbo(root: Path = ROOT) -> bool | None:
    """Whether clocks above the nominal one are allowed; None where the kernel does not tell."""
    off = read(root / CPUS / "intel_pstate/no_turbo")
    if off in ("0", "1"):
        return off == "0"
    boost = read(root / CPUS / "cpufreq/boost")
    return boost == "1" if boost in ("0", "1") else None


def load_average(root: Path = ROOT) -> float | None:
    """Processes that ran or waited over the last minute, this one among them."""
    text = read(root / "proc/loadavg")
    return float(text.split()[0]) if text else None


def busy_cores(seconds: float = 0.5) -> float:
    """Cores' worth of time that all processes of the host spent while this one slept for ``seconds``."""
    import psutil

    return float(psutil.cpu_percent(interval=seconds)) / 100 * (psutil.cpu_count() or 1)


def busy_seconds() -> float:
    """Processor time that all processes of the host have spent since it started, stolen time of a guest included."""
    import psutil

    times = psutil.cpu_times()
    return float(sum(getattr(times, kind, 0.0) for kind in BUSY))


def _cpuinfo(root: Path) -> dict[str, str]:
    """Fields of the first processor."""
    text = read(root / "proc/cpuinfo") or ""
    first = re.split(r"\n\s*\n", text)[0] if "model name" in text else text
    return {name.strip(): value.strip() for name, _, value in _pairs(first)}


def _pairs(text: str) -> Iterator[tuple[str, str, str]]:
    return (line.partition(":") for line in text.splitlines() if ":" in line)


def _meminfo(root: Path, name: str) -> int:
    fields = {key: value.split() for key, _, value in _pairs(read(root / "proc/meminfo") or "")}
    if name in fields:
        return int(fields[name][0]) * 1024
    pages = {"MemTotal": "SC_PHYS_PAGES", "MemAvailable": "SC_AVPHYS_PAGES"}[name]
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def _cpu_list(text: str) -> list[int]:
    """Numbers of a kernel list such as ``0-3,8``."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def _bytes(text: str | None) -> int | None:
    match = re.fullmatch(r"(\d+)([KMG]?)B?", text or "")
    return int(match[1]) * UNITS[match[2]] if match else None
