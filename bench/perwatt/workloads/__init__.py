"""The kinds of work that can be measured, one file each. No module here imports torch before it runs something."""

from __future__ import annotations

from perwatt import plugins
from perwatt.errors import InputError, expected
from perwatt.workloads.base import Workload


def available() -> dict[str, Workload]:
    """Every workload by name: built-in ones, then those of entry point ``perwatt.workloads``."""
    return plugins.find("perwatt.workloads", "WORKLOAD", "perwatt.workloads")


def get(name: str) -> Workload:
    """A workload by name.

    Raises:
        InputError: there is none of that name; the message has the nearest one.
    """
    if name not in available():
        raise InputError(expected(name, available()), field="workload")
    return available()[name]
