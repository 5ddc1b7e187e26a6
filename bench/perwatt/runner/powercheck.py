"""The self-test of power sensors: the device at rest, at half and at full load, with every sensor of its chips read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from perwatt.backends.base import Backend
from perwatt.errors import InputError, MissingHardware
from perwatt.power import checkup, choice, selftest
from perwatt.power.base import Lost, Probe, Sensor, Target, detected, opened, used
from perwatt.power.checkup import Load, Verdict
from perwatt.power.plan import Plan, plan
from perwatt.runner import folder as files
from perwatt.runner import window
from perwatt.runner.supervisor import Worker, WorkerLost
from perwatt.spec import suite as suites
from perwatt.spec.case import Case
from perwatt.spec.suite import Energy

SUITE = "power"
LOADS = {True: "large product", False: "middling product"}  # the case, by whether the device is asynchronous
DUTY = {"half": 0.5, "full": 1.0}
Tell = Callable[[str], None]


def check(backend: Backend, tell: Tell) -> list[Verdict]:
    """Test every sensor of the backend's chips that is readable, and remember what was found.

    Args:
        backend: the device.
        tell: told what is going on.

    Raises:
        MissingHardware: no sensor can be read here, no worker comes up, or the load failed.
    """
    world = _world(backend)
    target = backend.target(world)
    probes: dict[Sensor, Probe] = {}
    closed: dict[str, str] = {}
    found = [sensor for sensor in choice.sensors().values() if used(sensor, target) in ("chips", "host")]
    for sensor in sorted(found, key=lambda s: -s.priority):
        if detected(sensor, target).state == "readable":
            try:
                probes[sensor] = opened(sensor, target)
            except Lost as lost:
                closed[sensor.name] = str(lost)
    if not probes:
        details = {sensor.name: detected(sensor, target).detail for sensor in found} | closed
        reasons = "; ".join(f"{name}: {detail}" for name, detail in details.items())
        raise MissingHardware(
            f"no sensor of power can be read: {reasons or 'none knows this device'}; "
            "without one, perwatt run takes an outside meter (--power-trace) or declared watts (--power-w)"
        )
    try:
        loads = _loads(backend, world, list(probes.values()), tell)
    finally:
        for probe in probes.values():
            probe.close()
    chips = [sensor.use(target) == "chips" for sensor in probes]
    verdicts = [
        checkup.judge({name: one[at] for name, one in loads.items()}, follows=chips[at]) for at in range(len(probes))
    ]
    verdicts = _compared(verdicts, list(probes), loads["full"], target)
    verdicts += [checkup.unopened(name, reason) for name, reason in closed.items()]
    driver = backend.describe().driver
    for verdict in verdicts:
        try:
            selftest.remember(verdict.sensor, driver, verdict.failed)
        except InputError as error:
            tell(f"not remembered: {error}")
    return verdicts


def _world(backend: Backend) -> int:
    """Devices of a whole chip, whose power is that of the work alone; one where they cannot work together."""
    world = backend.world_of("chip") or 1
    return 1 if backend.unsupported_world(world) else world


def _loads(backend: Backend, world: int, probes: list[Probe], tell: Tell) -> Mapping[str, list[Load]]:
    """What each probe said at each level of load."""
    windows = max((plan(Energy(mode="all"), None, probe.facts) for probe in probes), key=lambda one: one.window_s)
    case = _case(backend)
    tell(f"at rest, {windows.idle_s:.0f} s")
    start, end, traces = window.rest(probes, windows, backend.clock)
    loads = {"idle": [Load(trace=trace, start=start, end=end) for trace in traces]}
    with tempfile.TemporaryDirectory(prefix="perwatt-doctor-") as scratch:
        team = world if world > 1 else None
        worker = Worker(backend.address, Path(scratch) / "worker.log", files.new_run_id(), team)
        try:
            worker.wait_ready()
            for name, duty in DUTY.items():
                tell(f"{name} load, {windows.window_s:.0f} s")
                loads[name] = _load(worker, case, duty, probes, windows, backend)
        finally:
            worker.stop()
    return loads


def _load(worker: Worker, case: Case, duty: float, probes: list[Probe], windows: Plan, backend: Backend) -> list[Load]:
    request: dict[str, Any] = {"case": case.message(), "impl": case.impls[0], "seed": 0, "duty": duty}
    request["window_s"] = windows.window_s
    seconds = case.measure.timeout_s + windows.each_s + windows.align_s
    try:
        found = window.take(worker, request, probes, windows, backend.clock, lambda event: None, seconds)
    except WorkerLost as lost:
        raise MissingHardware(f"the self-test needs a steady load: {lost.reason}") from lost
    if found.ended or not found.marks:
        raise MissingHardware(f"the self-test needs a steady load: {found.ended or 'there was none'}")
    start, end = found.marks[0][0], found.marks[-1][0]
    return [Load(trace=trace, start=start, end=end, ramp_s=windows.ramp_s) for trace in found.traces]


def _case(backend: Backend) -> Case:
    """A product of the suite that fills the device, and is not too slow for it."""
    name = LOADS[backend.asynchronous]
    case = next(case for case in suites.load(SUITE).cases if case.name == name)
    return replace(case, impls=case.impls[:1])


def _compared(verdicts: list[Verdict], sensors: list[Sensor], full: list[Load], target: Target) -> list[Verdict]:
    """The verdicts, each sensor of the chips against the best one that did not fail by itself."""
    own = [at for at, sensor in enumerate(sensors) if sensor.use(target) == "chips" and not verdicts[at].failed]
    best = next((at for at in own if full[at].trace.facts.quantity != "%"), None)
    for at in own:
        same = best is not None and at != best and full[at].trace.facts.quantity != "%"
        if same and best is not None and (reason := checkup.disagreement(full[best], full[at])):
            verdicts[at] = replace(verdicts[at], failed=reason)
    return verdicts
