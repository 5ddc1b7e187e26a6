"""Finding what can be plugged in: a scan of a built-in package, then entry points of other distributions.

Every built-in plug-in is one module that defines one public constant (``WORKLOAD``, ``BACKEND``, ...), which holds
one plug-in or a tuple of them. A third-party package names the same object under the entry-point group, and may not
take a built-in's name.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any


class PluginError(RuntimeError):
    """A third-party plug-in cannot be loaded, or takes a name that is taken."""


@cache
def find(package: str, constant: str, group: str) -> dict[str, Any]:
    """Plug-ins by name.

    Args:
        package: package whose modules, and those of its subpackages, are scanned (``perwatt.workloads``).
        constant: module-level name that holds the plug-in; modules without it are passed over.
        group: entry-point group (``perwatt.workloads``).

    Raises:
        PluginError: an entry point fails to load, or its name is already taken.
    """
    found = {plugin.name: plugin for plugin in _scan(package, constant)}
    for entry in importlib.metadata.entry_points(group=group):
        for plugin in _load(entry, group):
            if found.setdefault(plugin.name, plugin) is not plugin:
                raise PluginError(f"entry point {entry.value} of {group}: the name {plugin.name!r} is taken")
    return found


def _scan(package: str, constant: str) -> Iterator[Any]:
    """Plug-ins of a package. A module whose text does not have the constant's name is not imported for it."""
    for info in _modules(importlib.import_module(package).__path__, f"{package}."):
        spec = info.module_finder.find_spec(info.name, None)
        source = getattr(spec and spec.loader, "get_source", lambda name: None)(info.name)
        if source is None or constant in source:
            yield from _several(getattr(importlib.import_module(info.name), constant, ()))


def _modules(path: Iterable[str], prefix: str) -> Iterator[pkgutil.ModuleInfo]:
    """Modules below a path, without importing any."""
    for info in pkgutil.iter_modules(path, prefix):
        yield info
        if info.ispkg:
            spec = info.module_finder.find_spec(info.name, None)
            yield from _modules((spec and spec.submodule_search_locations) or (), f"{info.name}.")


def _load(entry: importlib.metadata.EntryPoint, group: str) -> tuple[Any, ...]:
    try:
        return _several(entry.load())
    except Exception as error:
        raise PluginError(f"entry point {entry.name} of {group} ({entry.value}) fails to load: {error}") from error


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
