"""What about the host can make its numbers worse: other work, clocks, threads, limits. Every device has one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from perwatt.finding import Finding
from perwatt.hardware import cgroup, machine
from perwatt.hardware.cgroup import ROOT

BUSY = 0.125  # share of the usable cores: one busy core of eight takes memory bandwidth and turbo from all
SCARCE = 0.25  # share of the memory; with less of it free, others hold what large cases need
THREADS = "OMP_NUM_THREADS"


def findings(root: Path = ROOT, busy_cores: Callable[[], float] = machine.busy_cores) -> Iterator[Finding]:
    """Every look at the host.

    Args:
        root: of the file system.
        busy_cores: cores' worth of work of all processes.
    """
    yield _load(busy_cores(), machine.usable_cores(root))
    yield _governor(machine.governors(root))
    yield _cores(root)
    yield _threads(os.environ.get(THREADS), machine.usable_cores(root))
    yield _memory(root)
    yield _hypervisor(machine.virtual(root))


def _load(busy: float, usable: int) -> Finding:
    if busy > BUSY * usable:
        return Finding(what="other work", state="warning", found=f"other work keeps {busy:.1f} cores busy",
                       remedy="stop it, or wait; times and power would be too high")  # fmt: skip
    return Finding(what="other work", state="ok", found=f"{busy:.1f} of {usable} cores are busy")


def _governor(governors: list[str]) -> Finding:
    names = ", ".join(governors)
    if set(governors) - {"performance"}:
        return Finding(what="governor", state="warning", found=f"clocks follow the governor {names}",
                       remedy="sudo cpupower frequency-set -g performance")  # fmt: skip
    return Finding(what="governor", state="ok", found=names or "not visible, as in most virtual machines")


def _cores(root: Path) -> Finding:
    """Of the threads that are online, those that affinity and the container leave."""
    usable, online = machine.usable_cores(root), machine.logical_cores(root)
    if usable == online:
        return Finding(what="cores", state="ok", found=f"this process may use all {online}")
    quota = cgroup.cpu_quota(root)
    limits = [f"affinity {machine.affinity()}"] + ([f"quota {quota:g}"] if quota else [])
    return Finding(what="cores", state="warning",
                   found=f"this process may use {usable} of {online} cores ({', '.join(limits)})",
                   remedy="lift its affinity or the container's quota, if not meant")  # fmt: skip


def _threads(asked: str | None, usable: int) -> Finding:
    if asked is None:
        return Finding(what="threads", state="ok", found=f"{usable}, one for each core")
    found = f"{THREADS}={asked}"
    if not asked.isdigit() or int(asked) < 1:
        return Finding(what="threads", state="warning", found=f"{found} is no number of threads",
                       remedy=f"unset it: one for each core is taken, {usable}")  # fmt: skip
    if int(asked) == usable:
        return Finding(what="threads", state="ok", found=found)
    remedy = "threads take turns on a core: lower it" if int(asked) > usable else "cores idle: unset it, if not meant"
    return Finding(what="threads", state="warning", found=f"{found} where {usable} cores may be used", remedy=remedy)


def _memory(root: Path) -> Finding:
    limit, free = machine.memory_limit(root), machine.memory_available(root)
    inside = ", the container's limit" if limit < machine.memory_total(root) else ""
    found = f"{_gb(free)} of {_gb(limit)}{inside} are free"
    if free < SCARCE * limit:
        return Finding(what="memory", state="warning", found=found,
                       remedy="end what holds the rest, or large cases run out of memory")  # fmt: skip
    return Finding(what="memory", state="ok", found=found)


def _hypervisor(virtual: bool | None) -> Finding:
    told = {True: "a virtual machine: clocks are the hypervisor's, and its other guests may take time",
            False: "none", None: "this kind of processor does not tell"}  # fmt: skip
    return Finding(what="hypervisor", state="ok", found=told[virtual])


def _gb(value: float) -> str:
    return f"{value / 1e9:.1f} GB"
