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

FILE = Path("perwatt", "sensors.json")


def failed(sensor: Sensor) -> str:
    """Why a sensor failed its self-test on this host; empty where it did not, or was never tested."""
    return str(_read().get(_key(sensor.name), ""))


def remember(name: str, reason: str) -> None:
    """Keep a verdict; no reason means that the sensor passed."""
    verdicts = _read() | {_key(name): reason}
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(verdicts, indent=2) + "\n", encoding="utf-8")


def _path() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / FILE


def _read() -> dict[str, str]:
    try:
        verdicts = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return verdicts if isinstance(verdicts, dict) else {}


def _key(name: str) -> str:
    return f"{socket.gethostname()}/{name}"
