"""What can be said of a case before a worker sees it: that it cannot be done here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from perwatt.backends.base import Backend
from perwatt.spec.case import Case


def unsupported(case: Case, impl: str, backend: Backend, sessions: int) -> str | None:
    """Why an impl of a case cannot run on a backend, or None; ``sessions`` copies of its data are in memory at once."""
    if reason := case.workload.unsupported(case, case.workload.impls()[impl], backend):
        return reason
    there, devices = backend.describe().memory_bytes, backend.world_of(case.placement)
    if devices is None:
        return _nowhere(case.placement)
    if devices > 1 and (reason := backend.unsupported_world(devices)):
        return f"placement {case.placement} {reason}"
    if case.mode == "shard" and (reason := case.workload.undivided(case, devices)):
        return reason
    alone = replace(case, impls=(impl,))
    needed = _needed(alone, sessions, devices)
    if needed > there:
        each = " on each" if devices > 1 else ""
        return f"needs at least {needed / 1e9:.3g} GB of memory{each}, the device has {there / 1e9:.3g} GB"
    return None


def _nowhere(placement: str) -> str:
    if placement == "chip":
        return "placement chip is a whole one, and what is here is a part of a chip: expected placement device"
    return f"placement {placement} cannot be measured yet, only device, chip and node"


def world(case: Case, backend: Backend) -> int:
    """Devices that work on a case which is supported."""
    return backend.world_of(case.placement) or 1


def most(cases: Iterable[Case], backend: Backend) -> int:
    """Devices of the largest placement of these cases that can be measured here."""
    worlds = {world(case, backend) for case in cases}
    return max((found for found in worlds if found > 1 and not backend.unsupported_world(found)), default=1)


def fitting(case: Case, backend: Backend, sessions: int) -> int:
    """Impls of a case whose data fits into memory at once beside one gate, so that they can be interleaved."""
    devices, there = _sharded_over(case, world(case, backend)), backend.describe().memory_bytes
    needed = sessions * case.workload.memory(case, devices)
    return max(1, int((there - case.workload.gate_memory(case, devices)) // needed)) if needed > 0 else len(case.impls)


def _needed(case: Case, sessions: int, devices: int) -> float:
    """Bytes on each device: every session's, and the gate's, which only one session is at."""
    over = _sharded_over(case, devices)
    return sessions * case.workload.memory(case, over) + case.workload.gate_memory(case, over)


def _sharded_over(case: Case, devices: int) -> int:
    """Devices that share one job; copies share nothing."""
    return devices if case.mode == "shard" else 1
