"""Which groups of two columns are compared: same work, same protocol, same placement, and the reason where not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from perwatt.analysis.groups import Column

Key = tuple[str | None, str | None]  # of the work or task, and of the protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What groups of a key may differ in, and are only compared where it fits.

    Attributes:
        placement: on how much hardware.
        mode: of several devices; empty for one, which is a copy and the whole job at once.
        whole: whether that is one whole chip.
        replicas: copies of the work.
        precision: format, where rows are joined by task.
    """

    placement: str
    mode: str
    whole: bool
    replicas: float | None
    precision: str

    def fits(self, other: Place) -> bool:
        """Whether figures of the two may be compared: a GPU is a chip of one device, a Trainium of several."""
        alike = self.placement == other.placement or (self.whole and other.whole)
        return alike and ("" in (self.mode, other.mode) or self.mode == other.mode)

    def with_(self, other: Place) -> str:
        """What the two are compared on; a GPU is a chip, so that all generations stand on one line."""
        return "chip" if self.whole and other.whole else self.placement

    def __str__(self) -> str:
        return " ".join(filter(None, (self.placement, self.mode)))


Places = dict[Place, list[int]]  # groups by place


class Index:
    """Groups of a column by key.

    Attributes:
        column: whose groups they are.
        keys: groups by key of work or task and of protocol.
    """

    def __init__(self, column: Column, across_formats: bool) -> None:
        self.column = column
        self._name = "task_key" if across_formats else "match_key"
        self.keys: dict[Key, Places] = {}
        self._protocols: dict[str | None, set[str | None]] = {}
        for group in range(column.size):
            key = column.text(self._name, group), column.text("protocol_key", group)
            place = _place(column, group, across_formats)
            self.keys.setdefault(key, {}).setdefault(place, []).append(group)
            self._protocols.setdefault(key[0], set()).add(key[1])
        self._tasks = {column.text("task_key", group): group for group in range(column.size)}

    def key(self, group: int) -> Key:
        """The key of a group of this column."""
        return self.column.text(self._name, group), self.column.text("protocol_key", group)

    def why_not(self, mine: Index, group: int) -> str:
        """Why a group of another column met none of this one."""
        key, protocol = mine.key(group)
        there = self.column.label
        if key is None or protocol is None:
            return "has no key: its source does not specify the work, or not how it was measured"
        if (key, protocol) in self.keys:
            places = " and ".join(sorted(str(place) for place in self.keys[key, protocol]))
            return f"{there} has this work at {places} only"
        if key in self._protocols:
            return f"{there} has this work by another protocol (cache mode or method)"
        if (task := mine.column.text("task_key", group)) in self._tasks:
            precision = self.column.text("precision", self._tasks[task])
            return f"{there} has this task in {precision} only; --across-formats compares training steps of both"
        return f"{there} has no such work"


def _place(column: Column, group: int, across_formats: bool) -> Place:
    placement = column.text("placement", group) or ""
    devices, per_chip = column.number("devices_used", group), column.number("devices_per_chip", group)
    return Place(
        placement=placement,
        mode="" if devices == 1 else column.text("mode", group) or "",
        whole=placement == "chip" or (placement == "device" and per_chip == 1),
        replicas=column.number("replicas", group),
        precision=(column.text("precision", group) or "") if across_formats else "",
    )


def meetings(a: Index, b: Index) -> Iterator[tuple[Place, list[int], Place, list[int]]]:
    """Groups of two columns that may be compared with each other, in the order of the first."""
    for key, mine in a.keys.items():
        if None in key or key not in b.keys:
            continue
        for place, groups in mine.items():
            for other, others in _nearest(place, b.keys[key]):
                yield place, groups, other, others


def _nearest(place: Place, places: Places) -> list[tuple[Place, list[int]]]:
    """Places that fit; where some are of the same placement, or as many copies, those alone."""
    fitting = [(other, groups) for other, groups in places.items() if place.fits(other)]
    for alike in (
        [item for item in fitting if item[0].placement == place.placement],
        [item for item in fitting if item[0].replicas == place.replicas],
    ):
        kept = [item for item in fitting if item in alike]
        fitting = kept or fitting
    return fitting
