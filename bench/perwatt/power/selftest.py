"""What ``perwatt doctor --power`` found out about sensors of this machine, remembered for runs.

A sensor that failed is not used unless it is asked for by name. The verdicts are in ``perwatt/sensors.json`` of the
user's cache folder, each for one host and version of the driver.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from perwatt.power.base import Sensor
from perwatt.runner import folder

FILE = Path("perwatt", "sensors.json")


def failed(sensor: Sensor, driver: str | None) -> str:
    """Why a sensor failed its self-test on this host and driver; empty where it did not, or was never tested."""
    return str(_read().get(_key(sensor.name, driver), ""))


def remember(name: str, driver: str | None, reason: str) -> None:
    """Keep a verdict; no reason means that the sensor passed.

    Raises:
        InputError: it cannot be written.
    """
    verdicts = _read() | {_key(name, driver): reason}
    path = _path()
    with folder.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder.replace(path, [json.dumps(verdicts, indent=2), "\n"])


def _path() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / FILE


def _read() -> dict[str, str]:
    try:
        verdicts = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return verdicts if isinstance(verdicts, dict) else {}


def _key(name: str, driver: str | None) -> str:
    return f"{socket.gethostname()}/{driver or 'any'}/{name}"
