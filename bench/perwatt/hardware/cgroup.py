"""Limits that a container sets on this process: processor time and memory, control groups of version 1 and 2.

Each function takes the root of the file system, so that tests can bring their own. A limit of an outer group holds
for the groups inside it, so the smallest on the way up is the one in force.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
MOUNT = "sys/fs/cgroup"
UNLIMITED = 2**60  # version 1 writes "no limit" as a number of bytes near 2^63


def cpu_quota(root: Path = ROOT) -> float | None:
    """Cores' worth of processor time this process may use, or None without a limit."""
    quotas = [_quota_v2(group / "cpu.max") for group in _groups(root, "")]
    quotas += [
        _ratio(read(group / "cpu.cfs_quota_us"), read(group / "cpu.cfs_period_us")) for group in _groups(root, "cpu")
    ]
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """Bytes of memory this process's groups may use, or None without a limit."""
    return min((limit for limit, _ in _memory(root)), default=None)


def memory_available(root: Path = ROOT) -> int | None:
    """Bytes left under the tightest limit, file cache that can be dropped counted as free; None without a limit."""
    return min((max(limit - used, 0) for limit, used in _memory(root)), default=None)


def read(path: Path) -> str | None:
    """Stripped text of a file of /proc or /sys, or None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _memory(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of every group that has a limit."""
    names = {"": ("memory.max", "memory.current"), "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes")}
    for controller, (limit_name, used_name) in names.items():
        for group in _groups(root, controller):
            limit, used = _number(read(group / limit_name)), _number(read(group / used_name))
            if limit is not None and limit < UNLIMITED:
                yield limit, max((used or 0) - _droppable(read(group / "memory.stat") or ""), 0)


def _droppable(stat: str) -> int:
    fields = dict(line.split(" ", 1) for line in stat.splitlines() if " " in line)
    return _number(fields.get("total_inactive_file", fields.get("inactive_file"))) or 0


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's group and of those around it; ``controller`` is empty for version 2."""
    mount = root / MOUNT / controller
    for line in (read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            inner = mount / path.lstrip("/")
            for folder in (inner, *inner.parents):
                yield folder
                if folder == mount:
                    break


def _quota_v2(path: Path) -> float | None:
    quota, _, period = (read(path) or "").partition(" ")
    return _ratio(quota, period)


def _ratio(quota: str | None, period: str | None) -> float | None:
    above, below = _number(quota), _number(period)
    return above / below if above and below and above > 0 else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.lstrip("-").isdigit() else None
