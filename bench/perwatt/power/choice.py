"""Which sensors a run reads: the best one for the chips that work, and one for their host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from perwatt import plugins
from perwatt.errors import InputError, MissingHardware, expected
from perwatt.power.base import Found, Sensor, Target, detected, used

STAND_IN = "a meter's trace (--power-trace) or declared watts (--power-w) can stand in"
SHEET = "tdp"  # as --sensor: no sensor, but the watts of the chip's data sheet


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Sensors of a run.

    Attributes:
        chips: of the chips that work; None where there is none.
        host: of the host around them; None where there is none, or where the host is the chip.
        reason: why there is none for the chips, with the remedy; empty where there is one.
        failed: a line for each sensor that failed when it was looked for, and was passed over.
    """

    chips: Sensor | None = None
    host: Sensor | None = None
    reason: str = ""
    failed: tuple[str, ...] = ()


def sensors() -> dict[str, Sensor]:
    """Every sensor by name: built-in ones, then those of entry point ``perwatt.sensors``."""
    return plugins.find("perwatt.power.sensors", "SENSOR", "perwatt.sensors")


def choose(target: Target, wanted: str = "", rejected: Callable[[Sensor], str] = lambda sensor: "") -> Choice:
    """The sensors for a target.

    Args:
        target: what is to be measured.
        wanted: name of the sensor that the user asked for; empty leaves it to priorities.
        rejected: why a sensor may not be used though it is here (it failed its self-test); one that was asked for is.

    Raises:
        InputError: there is no sensor of that name, or it sees something else.
        MissingHardware: the one that was asked for cannot be used here.
    """
    found = sensors()
    if target.partial and not wanted:
        return Choice(reason=target.partial)
    failed: list[str] = []
    look = partial(_look, target, failed)
    chips, reason = (_asked(found, wanted, target), "") if wanted else _best(found, target, rejected, look)
    hosts = (s for s in _ranked(found, target, "host") if _usable(look(s)) and not rejected(s))
    return Choice(chips=chips, host=next(hosts, None), reason=reason, failed=tuple(failed))


def _look(target: Target, failed: list[str], sensor: Sensor) -> Found:
    seen = detected(sensor, target)
    if seen.state == "failed":
        failed.append(f"{sensor.name}: {_why(seen)}")
    return seen


def _asked(found: dict[str, Sensor], wanted: str, target: Target) -> Sensor:
    if wanted not in found:
        raise InputError(expected(wanted, [*found, SHEET]), field="--sensor")
    sensor = found[wanted]
    if used(sensor, target) in ("never", "host"):
        others = [name for name, one in sorted(found.items()) if used(one, target) in ("chips", "asked")]
        instead = f": expected one of {', '.join(others)}" if others else ", and no other sensor does"
        raise InputError(f"{wanted} does not see a {target.backend} chip{instead}", field="--sensor")
    if target.partial and used(sensor, target) == "chips":
        raise MissingHardware(f"--sensor {wanted}: {target.partial}")
    seen = detected(sensor, target)
    if not _usable(seen):
        raise MissingHardware(f"--sensor {wanted}: {_why(seen)}")
    return sensor


def _best(
    found: dict[str, Sensor], target: Target, rejected: Callable[[Sensor], str], look: Callable[[Sensor], Found]
) -> tuple[Sensor | None, str]:
    reasons = []
    for sensor in _ranked(found, target, "chips"):
        seen = look(sensor)
        if _usable(seen) and not (why := rejected(sensor)):
            return sensor, ""
        reasons.append(f"{sensor.name}: {why if _usable(seen) else _why(seen)}")
    lacking = "; ".join(reasons) or f"no sensor knows {target.backend} chips"
    return None, f"{lacking}; {STAND_IN}"


def _ranked(found: dict[str, Sensor], target: Target, use: str) -> list[Sensor]:
    return sorted((s for s in found.values() if used(s, target) == use), key=lambda s: -s.priority)


def _usable(found: Found) -> bool:
    return found.state == "readable"


def _why(found: Found) -> str:
    return f"{found.detail}; {found.remedy}" if found.remedy else found.detail
