"""Kinds of device, one file each. Importing this package imports no torch; detecting a device may."""

from __future__ import annotations

from perwatt import plugins
from perwatt.backends.base import Backend
from perwatt.errors import InputError, MissingHardware, expected
from perwatt.finding import said


def available() -> dict[str, Backend]:
    """Every backend by name: built-in ones, then those of entry point ``perwatt.backends``."""
    return plugins.find("perwatt.backends", "BACKEND", "perwatt.backends")


def choose(device: str) -> Backend:
    """The backend of ``--device``: by name, or for ``auto`` the one present with the highest priority.

    Args:
        device: ``auto``, a name, or a name and which of several devices: ``cuda:1``.

    Raises:
        InputError: unknown name, or no such device.
        MissingHardware: the named device is not here, or none at all is.
    """
    found = available()
    if device == "auto":
        missing = {name: lacking(backend) for name, backend in found.items()}
        if all(missing.values()):
            raise MissingHardware("; ".join(f"no device {name}: {reason}" for name, reason in missing.items()))
        chosen = max((found[name] for name, reason in missing.items() if reason is None), key=lambda b: b.priority)
        for name, backend in found.items():
            if missing[name] and backend.priority > chosen.priority and backend.stands():
                other = f"--device {chosen.name} measures that one"
                raise MissingHardware(f"a device {name} is here and cannot be used: {missing[name]}; {other}")
        return _settled(chosen)
    name, _, index = device.partition(":")
    if name not in found or (index and not index.isdecimal()):
        raise InputError(expected(device, [*found, "auto"]), field="--device")
    try:
        chosen = found[name].at(int(index or 0))
    except InputError as error:
        raise error.at(field="--device") from None
    if reason := lacking(chosen):
        raise MissingHardware(f"--device {device}: {reason}")
    return _settled(chosen)


def _settled(chosen: Backend) -> Backend:
    """The backend, unless the user has set what cannot hold on it."""
    if mistake := chosen.mistake():
        raise mistake
    return chosen


def lacking(backend: Backend) -> str | None:
    """:meth:`Backend.missing`, also of a backend of somebody else's that breaks its promise not to raise."""
    try:
        return backend.missing()
    except Exception as error:
        return f"its detection fails: {said(error)}"


def addressed(address: str) -> Backend:
    """The backend of :attr:`Backend.address`, in the process that is to start it."""
    whole, _, devices = address.partition("/")
    name, _, index = whole.partition(":")
    backend = available()[name]
    backend = backend.at(int(index)) if index else backend
    return backend.divided(int(devices)) if devices else backend
