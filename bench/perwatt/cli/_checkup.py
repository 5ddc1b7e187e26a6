"""What ``perwatt doctor`` finds out: the machine, its sensors and backends, and what each suite could measure here."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from perwatt import backends, configs
from perwatt.backends.base import Backend
from perwatt.errors import InputError, MissingHardware
from perwatt.finding import Finding, looked, said, split
from perwatt.hardware import cgroup, machine
from perwatt.power import choice, selftest
from perwatt.power.base import Sensor, Target, detected, used
from perwatt.runner import folder, preflight, session
from perwatt.spec import suite
from perwatt.spec.case import Case
from perwatt.spec.suite import Suite

Facts = dict[str, Any]

FULL = 2**30  # bytes left on the disk of the results; raw samples of a long run take some hundred MB
PLACEMENTS = ("device", "chip", "node")
ELSEWHERE = "choose another --out"
HOST = "cpu"  # the backend whose findings are about what is around every device
TORCH = ("torch", "torch-neuronx", "torch-xla", "triton")


def checkup(device: str) -> Facts:
    """Everything that can be said about this machine without measuring. Starts no device.

    Args:
        device: name of the backend whose suites are looked at, or ``auto``, which is told of all backends too.
    """
    known = sorted(backends.available().items())
    chosen, missing = _chosen(device)
    target, wrong = _target(chosen) if chosen else (Target(backend=device, chip=""), [])
    asked = {name for name, _ in known} if device == "auto" else {HOST, device.partition(":")[0]}
    here = {name: _backend(backend) for name, backend in known}
    findings = [one for name, backend in known if name in asked for one in _findings(backend, here[name])]
    return {
        "machine": _machine(),
        "software": _software(),
        "backends": list(here.values()),
        "device": chosen.name if chosen else None,
        "sensors": _sensors(target, here[chosen.name] if chosen else {}),
        "suites": [_suite(name, chosen, missing) for name in configs.names("suites")],
        "findings": [*findings, *wrong, _of("results", _disk(folder.RUNS))],
    }


def _findings(backend: Backend, here: Facts) -> list[Facts]:
    """What a backend found, after what every backend can be asked."""
    asked: list[Finding] = []
    if not here["missing"]:
        asked += looked("other users", partial(_warned, "other users", lambda: backend.busy(backend.count())))
        asked += looked("torch.compile", partial(_warned, "torch.compile", backend.uncompilable))
    return [_of(backend.name, one) for one in [*asked, *looked(backend.name, backend.findings)]]


def _warned(what: str, ask: Callable[[], str | None]) -> Iterator[Finding]:
    if reason := ask():
        found, remedy = split(reason)
        yield Finding(what=what, state="warning", found=found, remedy=remedy)


def _of(whose: str, finding: Finding) -> Facts:
    return {"of": whose, **asdict(finding)}


def _sensors(target: Target, device: Facts) -> list[Facts]:
    """Every way to learn about power: whether it can be used, and for what of this device."""
    driver = (device.get("device") or {}).get("driver")
    return [_sensor(name, sensor, target, driver) for name, sensor in sorted(choice.sensors().items())]


def _sensor(name: str, sensor: Sensor, target: Target, driver: str | None) -> Facts:
    seen = {"name": name, "use": used(sensor, target), **asdict(detected(sensor, target))}
    if seen["state"] == "readable" and (reason := selftest.failed(sensor, driver)):
        seen |= {"state": "failed", "detail": reason, "remedy": f"--sensor {name} uses it all the same"}
    return seen


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


def _disk(results: Path) -> Finding:
    """Room for the results, where they would be."""
    there = next(path for path in (results.absolute(), *results.absolute().parents) if path.is_dir())
    left = f"{shutil.disk_usage(there).free / 1e9:.1f} GB"
    if not os.access(there, os.W_OK):
        return Finding(what="disk", state="warning", found=f"{results} cannot be written here", remedy=ELSEWHERE)
    if shutil.disk_usage(there).free < FULL:
        return Finding(what="disk", state="warning", found=f"{left} are left for {results}", remedy=ELSEWHERE)
    return Finding(what="disk", state="ok", found=f"{left} are free for {results}")


def _backend(backend: Backend) -> Facts:
    reason = backends.lacking(backend)
    try:
        device = None if reason else asdict(backend.describe())
    except Exception as error:
        device, reason = None, f"it cannot be described: {said(error)}"
    return {"name": backend.name, "missing": reason, "device": device}


def _target(backend: Backend) -> tuple[Target, list[Facts]]:
    """What sensors are to look at, and what is wrong where the backend cannot tell it."""
    found: list[Target] = []

    def ask() -> list[Finding]:
        found.append(backend.target())
        return []

    wrong = [_of(backend.name, one) for one in looked("target of sensors", ask)]
    return (*found, Target(backend=backend.name, chip=""))[0], wrong


def _chosen(device: str) -> tuple[Backend | None, str]:
    """The backend of ``--device``, or None and why nothing can be measured on it."""
    try:
        return _described(backends.choose(device)), ""
    except MissingHardware as error:
        return None, str(error)
    except InputError as error:
        if error.field == "--device":
            raise
        return None, str(error)  # something that the user has set for it
    except Exception as error:  # of somebody else's backend
        return None, f"{device} cannot be described: {said(error)}"


def _described(backend: Backend) -> Backend:
    """The backend, looking at itself once: thousands of rows ask it, and a look takes dozens of files."""
    known, once = backend.describe(), copy(backend)
    once.describe = lambda: known  # type: ignore[method-assign]
    return once


def _suite(name: str, backend: Backend | None, missing: str) -> Facts:
    """How many rows of a suite could be measured, as they stand and on each placement, and why the others could not."""
    try:
        loaded = suite.load(name)
    except InputError as error:
        return {"name": name, "rows": 0, "measurable": 0, "reasons": {}, "placements": {}, "error": str(error)}
    reasons = _reasons(loaded.cases, backend, missing)
    return {
        "name": name, "rows": len(reasons), "measurable": reasons.count(None), "error": None,
        "reasons": dict(Counter(reason for reason in reasons if reason)),
        "placements": _placements(loaded, backend) if backend else {},
    }  # fmt: skip


def _reasons(cases: Iterable[Case], backend: Backend | None, missing: str) -> list[str | None]:
    """Why each row cannot be measured; None where it can."""
    return [
        preflight.unsupported(case, impl, backend, sessions=1) if backend else missing
        for case in cases
        for impl in case.impls
    ]


def _placements(loaded: Suite, backend: Backend) -> Facts:
    """Devices that each placement takes here, and rows that could be measured on it by ``perwatt run --placement``."""
    worlds = {place: backend.world_of(place) for place in PLACEMENTS}
    found: dict[int | None, Facts] = {}
    for place, world in worlds.items():  # what takes as many devices is refused and done alike
        if world not in found:
            found[world] = _placed(loaded, place, world, backend)
    return {place: found[world] for place, world in worlds.items()}


def _placed(loaded: Suite, place: str, world: int | None, backend: Backend) -> Facts:
    reason = backend.unsupported_world(world) if world and world > 1 else "" if world else "not known here"
    if reason:
        return {"devices": world, "measurable": 0, "reasons": {}, "error": reason}
    try:
        rows = _reasons(session.placed(loaded, place).cases, backend, "")
    except InputError as error:
        return {"devices": world, "measurable": 0, "reasons": {}, "error": error.message}
    why = dict(Counter(reason for reason in rows if reason))
    return {"devices": world, "measurable": rows.count(None), "reasons": why, "error": None}
