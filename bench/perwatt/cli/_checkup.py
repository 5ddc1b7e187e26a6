"""What ``perwatt doctor`` finds out: the machine, its sensors and backends, and what each suite could measure here."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perwatt import backends, configs
from perwatt.backends.base import Backend
from perwatt.errors import InputError, MissingHardware
from perwatt.hardware import cgroup, machine
from perwatt.power import choice, selftest
from perwatt.power.base import Target
from perwatt.runner import folder, preflight
from perwatt.spec import suite

Facts = dict[str, Any]

BUSY = 0.125  # share of the usable cores: one busy core of eight takes memory bandwidth and turbo from all
FULL = 2**30  # bytes left on the disk of the results; raw samples of a long run take some hundred MB
TORCH = ("torch", "torch-neuronx", "torch-xla", "triton")


def checkup(device: str) -> Facts:
    """Everything that can be said about this machine without measuring. Starts no device.

    Args:
        device: name of the backend whose suites are looked at, or ``auto``.
    """
    facts: Facts = {
        "machine": _machine(),
        "software": _software(),
        "disk": _disk(folder.RUNS),
        "backends": [_backend(backend) for _, backend in sorted(backends.available().items())],
    }
    chosen, missing = _chosen(device)
    facts["busy"] = chosen.busy() if chosen else None
    facts["device"] = chosen.name if chosen else None
    target = chosen.target() if chosen else Target(backend=device, chip="")
    facts["sensors"] = _sensors(target, chosen.describe().driver if chosen else None)
    facts["suites"] = [_suite(name, chosen, missing) for name in configs.names("suites")]
    facts["warnings"] = warnings(facts)
    return facts


def _sensors(target: Target, driver: str | None) -> list[dict[str, str]]:
    """Every way to learn about power: whether it can be used, and for what of this device."""
    found = []
    for name, sensor in sorted(choice.sensors().items()):
        seen = {"name": name, "use": sensor.use(target), **asdict(sensor.detect(target))}
        if seen["state"] == "readable" and (reason := selftest.failed(sensor, driver)):
            seen |= {"state": "failed", "detail": reason, "remedy": f"--sensor {name} uses it all the same"}
        found.append(seen)
    return found


def warnings(facts: Facts) -> list[dict[str, str]]:
    """What makes measurements worse here: cause and remedy."""
    host, found = facts["machine"], []
    if facts["busy"]:
        cause, _, remedy = facts["busy"].partition(": ")
        found.append((cause, remedy))
    if host["busy_cores"] > BUSY * host["usable_cores"]:
        cause = f"other work keeps {host['busy_cores']:.1f} cores busy"
        found.append((cause, "stop it, or wait; times and power would be too high"))
    if set(host["governors"]) - {"performance"}:
        names = ", ".join(host["governors"])
        found.append((f"clocks follow the governor {names}", "sudo cpupower frequency-set -g performance"))
    if host["usable_cores"] < host["logical_cores"]:
        count = f"{host['usable_cores']} of {host['logical_cores']}"
        found.append(
            (f"this process may use {count} cores", "lift its affinity or the container's quota, if not meant")
        )
    if facts["disk"]["free_bytes"] < FULL:
        left = f"{facts['disk']['free_bytes'] / 1e9:.1f} GB"
        found.append((f"{left} are left for {facts['disk']['folder']}", "choose another --out"))
    return [{"cause": cause, "remedy": remedy} for cause, remedy in found]


def _machine() -> Facts:
    return {
        "cpu": machine.cpu_model(),
        "instance_type": machine.instance_type(),
        "virtual": machine.virtual(),
        "physical_cores": machine.physical_cores(),
        "logical_cores": machine.logical_cores(),
        "affinity": machine.affinity(),
        "cpu_quota": cgroup.cpu_quota(),
        "usable_cores": machine.usable_cores(),
        "last_level_cache_bytes": machine.last_level_cache(),
        "memory_bytes": machine.memory_total(),
        "memory_available_bytes": machine.memory_available(),
        "memory_cgroup_limit_bytes": cgroup.memory_limit(),
        "governors": machine.governors(),
        "turbo": machine.turbo(),
        "load_average": machine.load_average(),
        "busy_cores": machine.busy_cores(),
    }


def _software() -> dict[str, str | None]:
    """Versions by the installer's records; nothing is imported."""
    versions: dict[str, str | None] = {}
    for name in TORCH:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def _disk(results: Path) -> Facts:
    there = next(path for path in (results.absolute(), *results.absolute().parents) if path.is_dir())
    free, writable = shutil.disk_usage(there).free, os.access(there, os.W_OK)
    return {"folder": str(results), "free_bytes": free, "writable": writable}


def _backend(backend: Backend) -> Facts:
    missing = backend.missing()
    return {"name": backend.name, "missing": missing, "device": None if missing else asdict(backend.describe())}


def _chosen(device: str) -> tuple[Backend | None, str]:
    """The backend of ``--device``, or None and why it is not here."""
    try:
        return backends.choose(device), ""
    except MissingHardware as error:
        return None, str(error)


def _suite(name: str, backend: Backend | None, missing: str) -> Facts:
    """How many rows of a suite could be measured, and why the others could not."""
    try:
        cases = suite.load(name).cases
    except InputError as error:
        return {"name": name, "rows": 0, "measurable": 0, "reasons": {}, "error": str(error)}
    reasons = [
        preflight.unsupported(case, impl, backend, sessions=1) if backend else missing
        for case in cases
        for impl in case.impls
    ]
    counted = Counter(reason for reason in reasons if reason)
    measurable = reasons.count(None)
    return {"name": name, "rows": len(reasons), "measurable": measurable, "reasons": dict(counted), "error": None}
