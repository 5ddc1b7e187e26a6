"""Redfish: power of the node as its controller (BMC) tells it by HTTP, where the user names one by the environment.

Resources by DMTF's schemas (DSP0268): the chassis that holds one computer system; of it ``EnvironmentMetrics``
(``PowerWatts.Reading``), else the older ``Power`` (``PowerControl[].PowerConsumedWatts``). A value of null means that
there is none at the moment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from perwatt.errors import shorten
from perwatt.power.base import Found, Lost, Probe, Reading, Target
from perwatt.power.bmc import PASSWORD, URL, USER, Bmc, Busy, Denied, Missing, Resource
from perwatt.power.node import NodeSensor, node_facts

SERVICE = "/redfish/v1/"
CHASSIS = "PERWATT_REDFISH_CHASSIS"
MOST_CHASSIS = 200  # more is a loop of links
MOST_READING = 1e9  # what no node draws, so that numbers without end are refused here

Take = Callable[[Resource], float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chassis:
    """A chassis: its id, what it is in, how many computer systems it holds, and its resource as a whole."""

    path: str
    name: str
    within: str
    systems: int
    resource: Resource


class Redfish(NodeSensor):
    """See the module."""

    name = "redfish"

    def detect(self, target: Target) -> Found:
        """Whether a service is named and has the power of a node. Asks it, where it is named."""
        if not os.environ.get(URL):
            remedy = f"set {URL}, {USER} and {PASSWORD}, if there is a BMC"
            return Found(state="absent", detail="no BMC is named", remedy=remedy)
        try:
            name, path, _ = _find(Bmc(os.environ))
        except Denied as error:
            return Found(state="denied", detail=str(error))
        except Lost as error:
            return Found(state="absent", detail=str(error))
        return Found(state="readable", detail=f"power of chassis {name} in {path}")

    def open(self, target: Target) -> Probe:
        """The power of the chassis that is the node."""
        try:
            return _Node(Bmc(os.environ))
        except Lost as error:
            raise Lost(f"redfish: {error}") from None


class _Node(Probe):
    def __init__(self, bmc: Bmc) -> None:
        self._bmc = bmc
        name, self._path, self._take = _find(bmc)
        note = f"{self._path}; how often it is updated is not told"
        self.facts = node_facts("redfish", name, note=note if bmc.encrypted else f"{note}; sent without encryption")

    def read(self) -> Reading | None:
        """Watts; none where the service has no value, or is busy."""
        try:
            watts = self._take(self._bmc.get(self._path))
        except Busy:
            return None
        except Lost as error:
            raise Lost(f"redfish: {error}") from None
        return None if watts is None else Reading(values=(watts,))


def _find(bmc: Bmc) -> tuple[str, str, Take]:
    """Name of the chassis that is the node, path of the resource with its power, and how to take it from there."""
    chassis = _node(list(_all(bmc)))
    seen = []
    for member, take in (("EnvironmentMetrics", _environment), ("Power", _control)):
        path = _link(chassis.resource.get(member))
        if not path:
            continue
        try:
            if take(bmc.get(path)) is not None:
                return chassis.name, path, take
            seen.append(f"{path} is null")
        except Missing as error:
            seen.append(str(error))
        except _NoPower:
            seen.append(f"{path} has none")
    raise Lost(f"chassis {chassis.name} tells no power" + (f" ({', '.join(seen)})" if seen else ""))


def _all(bmc: Bmc) -> Iterator[_Chassis]:
    """Every chassis of the service. Collections come in pages."""
    page, asked = _link(bmc.get(SERVICE).get("Chassis")), 0
    while page:
        collection = bmc.get(page)
        paths = [path for member in _items(collection.get("Members")) if (path := _link(member))]
        asked += 1 + len(paths)
        if asked > MOST_CHASSIS:
            raise Lost(f"the BMC lists more than {MOST_CHASSIS} chassis")
        for path in paths:
            yield _chassis(path, bmc.get(path))
        page = _path(collection.get("Members@odata.nextLink"))


def _chassis(path: str, resource: Resource) -> _Chassis:
    links = resource.get("Links")
    links = links if isinstance(links, dict) else {}
    name, within = str(resource.get("Id", path)), _link(links.get("ContainedBy"))
    systems = len(_items(links.get("ComputerSystems")))
    return _Chassis(path=path, name=name, within=within, systems=systems, resource=resource)


def _node(found: Sequence[_Chassis]) -> _Chassis:
    """The chassis that is the node: the outermost of those with a computer system, or the one that the user names."""
    if wanted := os.environ.get(CHASSIS):
        named = [one for one in found if one.name == wanted]
        if len(named) != 1:
            raise Lost(f"{CHASSIS}: found {shorten(wanted)}, expected one of {_names(found)}")
        return named[0]
    holders = [one for one in found if one.systems] or list(found)
    inner = {one.path for one in holders}
    outermost = [one for one in holders if one.within not in inner]
    if len(outermost) != 1:
        raise Lost(f"which chassis is the node is not clear: name one of {_names(holders)} by {CHASSIS}")
    if outermost[0].systems > 1:
        raise Lost(f"chassis {outermost[0].name} holds {outermost[0].systems} systems: name one by {CHASSIS}")
    return outermost[0]


def _names(found: Sequence[_Chassis]) -> str:
    return ", ".join(one.name for one in found) or "none"


class _NoPower(Lost):
    """A resource without the property."""


def _environment(resource: Resource) -> float | None:
    """``PowerWatts.Reading`` (EnvironmentMetrics 1.0 and newer)."""
    power = resource.get("PowerWatts")
    if not isinstance(power, dict) or "Reading" not in power:
        raise _NoPower("PowerWatts.Reading is missing")
    return _watts("PowerWatts.Reading", power["Reading"])


def _control(resource: Resource) -> float | None:
    """``PowerConsumedWatts`` (Power 1.0 and newer) of the only power control, or of the only one of the chassis."""
    controls = [one for one in _items(resource.get("PowerControl")) if "PowerConsumedWatts" in one]
    if len(controls) > 1:
        controls = [one for one in controls if one.get("PhysicalContext") == "Chassis"]
    if len(controls) != 1:
        raise _NoPower("PowerControl has no single PowerConsumedWatts of the chassis")
    return _watts("PowerConsumedWatts", controls[0]["PowerConsumedWatts"])


def _watts(what: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_READING:
        raise Lost(f"{what}: found {shorten(value)}, expected watts")
    return float(value)


def _items(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _link(value: object) -> str:
    """Path of a reference to a resource; empty where there is none."""
    return _path(value.get("@odata.id")) if isinstance(value, dict) else ""


def _path(value: object) -> str:
    """A path on the same service; what names another host is none."""
    if not isinstance(value, str) or not value.startswith("/") or value.startswith("//"):
        return ""
    return value.partition("#")[0] if value.isascii() and value.isprintable() and " " not in value else ""


SENSOR = Redfish()
