"""What can be said of a case before a worker sees it: that it cannot be done here."""

from __future__ import annotations

from perwatt.backends.base import Backend
from perwatt.spec.case import Case


def unsupported(case: Case, impl: str, backend: Backend, sessions: int) -> str | None:
    """Why an impl of a case cannot run on a backend, or None; ``sessions`` copies of its data are in memory at once."""
    if reason := _unplaceable(case, backend):
        return reason
    if reason := case.workload.unsupported(case, case.workload.impls()[impl], backend):
        return reason
    needed, there = sessions * case.workload.memory(case), backend.describe().memory_bytes
    if needed > there:
        return f"needs at least {needed / 1e9:.3g} GB of memory, the device has {there / 1e9:.3g} GB"
    return None


def _unplaceable(case: Case, backend: Backend) -> str | None:
    """A chip of one device is measured by one process; more devices need several."""
    devices = backend.describe().devices_per_chip
    if case.placement == "device" or (case.placement == "chip" and devices == 1):
        return None
    there = "device and chip" if devices == 1 else "device"
    return f"placement {case.placement} cannot be measured yet, only {there}"


def fitting(case: Case, backend: Backend, sessions: int) -> int:
    """Impls of a case whose data fits into memory at once, so that they can be interleaved; at least one."""
    needed = sessions * case.workload.memory(case)
    return max(1, int(backend.describe().memory_bytes // needed)) if needed > 0 else len(case.impls)
