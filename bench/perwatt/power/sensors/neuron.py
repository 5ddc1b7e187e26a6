"""Power percentages of Neuron chips, by the driver's sysfs files. There are no watts in them (docs/energy.md).

The percentage is of a maximum that AWS does not publish, with background power taken out of it (comment of the
driver's ``neuron_power.c``), so that an idle chip is near 0. Two files say it: ``utilization`` the minimum, maximum and
average of the last whole wall-clock minute, ``utilization_raw`` (from driver 2.29 on) each die's value now.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeVar

from perwatt.hardware import neuron_power, neuron_sysfs
from perwatt.hardware.neuron_power import Garbage
from perwatt.hardware.neuron_sysfs import NeuronChip
from perwatt.power.base import Facts, Found, Lost, Probe, Reading, Sensor, Target, Use

MINUTE_S = 60.0
MINUTES_POLL_S = 1.0
MINUTES_WINDOW_S = 120.0  # less need not hold one whole wall-clock minute
LIVE_UPDATE_S = 1.0  # not documented; a minute is valid from 60 samples on, so a chip with valid minutes is no slower
LIVE_POLL_S = 0.1
LIVE_WINDOW_S = 30.0
STEP = 0.01  # a basis point
APART_S = 2.0  # chips are rolled up by threads of their own, which look every 50 ms, and stamped in whole seconds
MOST_TORN = 10  # readings in a row with chips of different minutes; all have been rolled up in far less than a second
MOST_EMPTY = 150  # readings in a row without data: two whole minutes, whenever they began
MAXIMUM = "percent of an unpublished maximum above background, no watts"
MINUTES_NOTE = (
    f"{MAXIMUM}; a bucket is the wall-clock minute that ended just before its stamp, "
    "and only a part of it where the driver was loaded within it"
)
LARGEST_NOTE = "; at every moment the larger of {0} dies, so the chip's is between 1/{0} of it and all of it"
LIVE_NOTE = (
    f"{MAXIMUM}; a channel is its die's percentage divided by the number of dies, so that a chip's dies add up to its "
    "percentage if they share its maximum equally, which is assumed; the format of a line is hypothetical; how often "
    f"it is renewed is unknown and taken as {LIVE_UPDATE_S:g} s"
)

Parsed = TypeVar("Parsed")


class _Neuron(Sensor):
    """What the sensors of both files have in common."""

    file: ClassVar[str]

    def use(self, target: Target) -> Use:
        """The chips, where it is they that work."""
        return "chips" if target.backend.startswith("neuron") else "never"

    def detect(self, target: Target) -> Found:
        """Whether every chip has the file, this user may read it, and it says what is documented."""
        here = neuron_sysfs.chips(target.root)
        if not here:
            remedy = "install aws-neuronx-dkms, if this is a Trainium"
            return Found(state="absent", detail="no Neuron driver", remedy=remedy)
        version = f"driver {neuron_sysfs.driver_version(target.root) or 'of unknown version'}"
        try:
            found = [self._file(chip) for chip in (_wanted(target) if target.chips else here)]
            doubts = {self._doubt(file.text(), file) for file in found} - {""}
        except PermissionError as error:
            remedy = f"sudo chmod a+r {error.filename}"
            return Found(state="denied", detail=f"{version}: not every file is readable for this user", remedy=remedy)
        except (OSError, Lost, Garbage) as error:
            return Found(state="absent", detail=f"{version}: {error}")
        of = f"{version}, {len(found)} chip{'s' if len(found) > 1 else ''}, {MAXIMUM}"
        return Found(state="readable", detail="; ".join([of, *sorted(doubts)]))

    def open(self, target: Target) -> Probe:
        """The file of every chip that works."""
        try:
            return self._probe([self._file(chip) for chip in _wanted(target)])
        except OSError as error:
            raise Lost(f"{self.name}: {error}") from None

    def _file(self, chip: NeuronChip) -> _File:
        try:
            path = self._locate(chip)
        except neuron_sysfs.Ambiguous as error:
            raise Lost(f"{self.name}: {error}") from None
        if path is None:
            raise Lost(f"{chip.label} has no power file {self.file}")
        if chip.dies is None:
            raise Lost(f"{chip.label} is {chip.device_name or 'of unknown kind'}, whose number of dies is not known")
        return _File(chip.label, chip.dies, path)

    @abstractmethod
    def _locate(self, chip: NeuronChip) -> Path | None: ...

    @abstractmethod
    def _doubt(self, text: str, file: _File) -> str:
        """What has to be said of a file that can be used otherwise. Raises Garbage."""

    @abstractmethod
    def _probe(self, files: list[_File]) -> Probe: ...


class _File:
    """A chip's power file."""

    def __init__(self, label: str, dies: int, path: Path) -> None:
        self.label, self.dies, self._path = label, dies, path

    def text(self) -> str:
        """All of it. Raises OSError."""
        return self._path.read_text(encoding="ascii", errors="replace")


class Minutes(_Neuron):
    """Minimum, maximum and average of the last whole minute."""

    name = "neuron-minutes"
    priority = 40
    file = "utilization"

    def _locate(self, chip: NeuronChip) -> Path | None:
        return chip.minutes()

    def _doubt(self, text: str, file: _File) -> str:
        empty = "no data now (no whole minute yet, or the firmware is too old)"
        return "" if _minute(text, file).valid else empty

    def _probe(self, files: list[_File]) -> Probe:
        return _Minutes(files)


class _Minutes(Probe):
    def __init__(self, files: list[_File]) -> None:
        self._files, self._torn, self._empty = files, 0, 0
        dies = max(file.dies for file in files)
        note = MINUTES_NOTE + (LARGEST_NOTE.format(dies) if dies > 1 else "")
        self.facts = Facts(
            sensor=Minutes.name, source="none", scope="package", quantity="%", kind="buckets",
            channels=tuple(file.label for file in files), update_s=MINUTE_S, poll_s=MINUTES_POLL_S,
            window_s=MINUTES_WINDOW_S, resolution=STEP, dies=dies, note=note,
        )  # fmt: skip

    def read(self) -> Reading | None:
        """The last minute of every chip; None while one has none, or while they are between two minutes."""
        minutes = [_parsed(Minutes.name, file, _minute)[0] for file in self._files]
        empty = [file.label for file, one in zip(self._files, minutes, strict=True) if not one.valid]
        stamps = [one.stamp for one in minutes]
        apart = max(stamps) - min(stamps)
        self._count(empty, apart)
        if empty or apart > APART_S:
            return None
        return Reading(
            values=tuple(one.average for one in minutes), lows=tuple(one.low for one in minutes),
            highs=tuple(one.high for one in minutes), stamp=max(stamps),
        )  # fmt: skip

    def _count(self, empty: list[str], apart: float) -> None:
        """Give up what stays as it is for longer than a gap can last."""
        self._empty = self._empty + 1 if empty else 0
        self._torn = self._torn + 1 if apart > APART_S and not empty else 0
        if self._empty >= MOST_EMPTY:
            chips = ", ".join(empty)
            raise Lost(f"{Minutes.name}: no data of {chips} over two minutes: the firmware is too old, or too slow")
        if self._torn >= MOST_TORN:
            raise Lost(f"{Minutes.name}: the minutes of the chips end {apart:g} s apart")


class Live(_Neuron):
    """The value of each die now."""

    name = "neuron-live"
    priority = 45
    file = "utilization_raw"

    def _locate(self, chip: NeuronChip) -> Path | None:
        return chip.live()

    def _doubt(self, text: str, file: _File) -> str:
        missing = "unavailable now (no sample yet, or the firmware is too old)"
        return missing if _dies(text, file) is None else ""

    def _probe(self, files: list[_File]) -> Probe:
        return _Live(files)


class _Live(Probe):
    def __init__(self, files: list[_File]) -> None:
        self._files = files
        self.facts = Facts(
            sensor=Live.name, source="none", scope="package", quantity="%", kind="samples",
            channels=tuple(f"{file.label}/die{die}" for file in files for die in range(file.dies)),
            update_s=LIVE_UPDATE_S, poll_s=LIVE_POLL_S, window_s=LIVE_WINDOW_S,
            resolution=STEP / min(file.dies for file in files), note=LIVE_NOTE,
        )  # fmt: skip

    def read(self) -> Reading | None:
        """What every die adds to its chip's percentage; None while one is unavailable."""
        values: list[float] = []
        raws: list[str] = []
        whole = True
        for file in self._files:
            dies, text = _parsed(Live.name, file, _dies)
            whole = whole and dies is not None
            values += [value / file.dies for value in dies or ()]
            raws.append(f"{file.label}: {neuron_power.shown(text)}")
        return Reading(values=tuple(values), raw="; ".join(raws)) if whole else None


def _minute(text: str, file: _File) -> neuron_power.Minute:
    return neuron_power.minute(text, file.label)


def _dies(text: str, file: _File) -> tuple[float, ...] | None:
    return neuron_power.dies(text, file.label, file.dies)


def _parsed(sensor: str, file: _File, parse: Callable[[str, _File], Parsed]) -> tuple[Parsed, str]:
    """What the file says, and its text. Raises Lost."""
    try:
        text = file.text()
        return parse(text, file), text
    except OSError as error:
        raise Lost(f"{sensor}: {file.label}: {error}") from None
    except Garbage as error:
        raise Lost(f"{sensor}: {error}") from None


def _wanted(target: Target) -> list[NeuronChip]:
    """The chips that work, in the order of the target. Raises Lost."""
    here = {str(chip.number): chip for chip in neuron_sysfs.chips(target.root)}
    missing = [number for number in target.chips if number not in here]
    if missing or not target.chips:
        asked = f"no Neuron chip {', '.join(missing)}" if missing else "it is not known which chips work"
        raise Lost(f"{asked}; here are {', '.join(here) or 'none'}")
    return [here[number] for number in target.chips]


SENSOR = (Minutes(), Live())
