"""What can be said of a case before a worker sees it: that it cannot be done here."""

from __future__ import annotations

from dataclasses import replace

from perwatt.backends.base import Backend, Device
from perwatt.spec.case import Case


def unsupported(case: Case, impl: str, backend: Backend, sessions: int) -> str | None:
    """Why an impl of a case cannot run on a backend, or None; ``sessions`` copies of its data are in memory at once."""
    if reason := case.workload.unsupported(case, case.workload.impls()[impl], backend):
        return reason
    device = backend.describe()
    devices = _devices(case, device)
    alone = replace(case, impls=(impl,))
    needed, there = _needed(alone, sessions, devices or 1), device.memory_bytes
    if devices and needed > there:
        each = " on each" if devices > 1 else ""
        return f"needs at least {needed / 1e9:.3g} GB of memory{each}, the device has {there / 1e9:.3g} GB"
    if devices != 1:
        able = "device and chip" if device.devices_per_chip == 1 else "device"
        return f"placement {case.placement} cannot be measured yet, only {able}"
    return None


def _devices(case: Case, device: Device) -> int | None:
    """Devices of the case's placement; None where that depends on how many hosts and chips there are."""
    return {"device": 1, "chip": device.devices_per_chip}.get(case.placement)


def fitting(case: Case, backend: Backend, sessions: int) -> int:
    """Impls of a case whose data fits into memory at once beside one gate, so that they can be interleaved."""
    needed, there = sessions * case.workload.memory(case), backend.describe().memory_bytes
    return max(1, int((there - case.workload.gate_memory(case)) // needed)) if needed > 0 else len(case.impls)


def _needed(case: Case, sessions: int, devices: int) -> float:
    """Bytes on each device: every session's, and the gate's, which only one session is at."""
    return sessions * case.workload.memory(case, devices) + case.workload.gate_memory(case, devices)
