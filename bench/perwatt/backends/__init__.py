"""Kinds of device, one file each. Importing this package imports no torch; detecting a device may."""

from __future__ import annotations

from perwatt import plugins
from perwatt.backends.base import Backend
from perwatt.errors import InputError, MissingHardware, expected


def available() -> dict[str, Backend]:
    """Every backend by name: built-in ones, then those of entry point ``perwatt.backends``."""
    return plugins.find("perwatt.backends", "BACKEND", "perwatt.backends")


def choose(device: str) -> Backend:
    """The backend of ``--device``: by name, or for ``auto`` the one present with the highest priority.

    Raises:
        InputError: unknown name.
        MissingHardware: the named device is not here, or none at all is.
    """
    found = available()
    if device == "auto":
        missing = {name: backend.missing() for name, backend in found.items()}
        if all(missing.values()):
            raise MissingHardware("; ".join(f"no device {name}: {reason}" for name, reason in missing.items()))
        return max((found[name] for name, reason in missing.items() if reason is None), key=lambda b: b.priority)
    if device not in found:
        raise InputError(expected(device, [*found, "auto"]), field="--device")
    if reason := found[device].missing():
        raise MissingHardware(f"--device {device}: {reason}")
    return found[device]
