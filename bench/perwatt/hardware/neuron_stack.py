"""The Neuron stack of this machine as one object: chips, cores, software, and why it cannot be measured on, if so.

Needs neither torch nor the runtime: a core belongs to the process that starts one, so detection reads files and asks
tools only. Source of each rule: ``docs/trainium.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from perwatt.errors import InputError
from perwatt.hardware import chips as sheets
from perwatt.hardware import machine, neuron_settings, neuron_sysfs, neuron_tools
from perwatt.hardware.cgroup import ROOT
from perwatt.hardware.chips import Chip
from perwatt.hardware.neuron_settings import LNC, VISIBLE, Settings
from perwatt.hardware.neuron_software import Software, software
from perwatt.hardware.neuron_sysfs import NeuronChip
from perwatt.hardware.neuron_tools import Listed

STRICT_DRIVER, STRICT_RUNTIME = (2, 29), (2, 33)  # from that driver on `nrt_init` fails with an older runtime
FAMILIES = {"trn1": "Trainium1", "trn2": "Trainium2", "trn3": "Trainium3", "inf2": "Inferentia2"}
NATIVE_CHIPS = ("Trainium2", "Trainium3")
UPDATE = "sudo apt-get install --only-upgrade aws-neuronx-dkms aws-neuronx-runtime-lib"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What was found.

    Attributes:
        chips: of the driver's files, by number.
        listed: what neuron-ls says of them; None where it says nothing.
        driver: version that is loaded.
        driver_file: version of its file; None where that cannot be told.
        runtime: version of the runtime library.
        installed: tells the software of this environment.
        variables: environment that counts.
        root: of the file system.
    """

    chips: tuple[NeuronChip, ...]
    listed: tuple[Listed, ...] | None
    driver: str | None
    driver_file: str | None
    runtime: str | None
    installed: Callable[[], Software]
    variables: Mapping[str, str]
    root: Path

    # What is here

    @cached_property
    def software(self) -> Software:
        """Of this environment."""
        return self.installed()

    @property
    def device_name(self) -> str | None:
        """Kind of chip, such as ``Trainium2``; None where nothing tells, or there are several kinds.

        By the driver's files, else by the family of the instance, which has one kind.
        """
        kinds = {chip.device_name for chip in self.chips}
        if kinds == {None}:
            return FAMILIES.get((self.instance_type or "")[:4].lower())
        return kinds.pop() if len(kinds) == 1 else None

    @property
    def sheet(self) -> Chip | None:
        """The chip's sheet, by exactly the driver's name for it."""
        return sheets.by_neuron_name(self.device_name) if self.device_name else None

    @property
    def settings(self) -> Settings:
        """What the user set.

        Raises:
            InputError: it contradicts itself, or the chip.
        """
        return neuron_settings.settings(self.variables)

    @property
    def lnc(self) -> int:
        """Physical cores of a logical one: as set, else as neuron-ls says, else the chip's default."""
        if (asked := self.settings.lnc) is not None:
            return asked
        said = {chip.lnc for chip in self.listed or () if chip.lnc}
        if len(said) == 1:
            return int(said.pop() or 1)
        sheet = self.sheet
        return sheet.devices.default if sheet and sheet.devices else 1

    @property
    def devices_per_chip(self) -> int:
        """Torch devices of a chip: its physical cores over the LNC."""
        return self._physical // self.lnc

    @property
    def devices(self) -> tuple[int, ...]:
        """Logical cores that may be used, by the number that the runtime has for them."""
        there = range(self.devices_per_chip * len(self.chips))
        asked = self.settings
        return tuple(there[: asked.count]) if asked.visible is None else asked.visible

    @property
    def memory_bytes(self) -> float:
        """Memory of one device: its share of the chip's."""
        said = {chip.memory_bytes for chip in self.listed or () if chip.memory_bytes}
        sheet = self.sheet
        whole = float(said.pop() or 0) if len(said) == 1 else sheet.memory_bytes if sheet else 0.0
        return whole / self.devices_per_chip

    @property
    def instance_type(self) -> str | None:
        """By neuron-ls, else by the firmware's tables, else the family that the driver names."""
        said = {chip.instance_type for chip in self.listed or () if chip.instance_type}
        families = {chip.family for chip in self.chips if chip.family}
        return said.pop() if len(said) == 1 else machine.instance_type(self.root) or ", ".join(families) or None

    @property
    def _physical(self) -> int:
        counts = {chip.cores for chip in self.chips}
        sheet = self.sheet
        known = counts.pop() if len(counts) == 1 else None
        return known or (sheet.cores.count if sheet and sheet.cores else 1)

    def chip_of(self, core: int) -> NeuronChip | None:
        """The chip that a logical core is of: as neuron-ls says, else cores are numbered chip by chip."""
        listed = (one for one in self.listed or () if len(one.cores) == self.devices_per_chip)
        said = next((one.number for one in listed if core in one.cores), None)
        number = core // self.devices_per_chip if said is None else said
        return next((chip for chip in self.chips if chip.number == number), None)

    def physical(self, core: int) -> tuple[int, ...]:
        """Numbers, on its chip, of the physical cores that a logical one is made of."""
        first = core % self.devices_per_chip * self.lnc
        return tuple(range(first, first + self.lnc))

    # What is wrong

    def missing(self) -> str | None:
        """Why nothing can be measured here, with the remedy; None where it can."""
        return self.no_chip() or self.software.reason or self.misfit()

    def mistake(self) -> InputError | None:
        """What the user set and cannot hold; asked where nothing is missing."""
        try:
            asked, listed = self.settings, {chip.lnc for chip in self.listed or () if chip.lnc}
        except InputError as error:
            return error
        sheet = self.sheet
        known = sorted(sheet.devices.by_lnc) if sheet and sheet.devices else ["1", "2"]
        if asked.lnc is not None and str(asked.lnc) not in known:
            return InputError(f"found {asked.lnc}, expected {' or '.join(known)} on {self.device_name}", field=LNC)
        if listed and self.lnc not in listed:
            said = " and ".join(str(lnc) for lnc in sorted(map(int, filter(None, listed))))
            return InputError(f"found {self.lnc}, expected {said} as neuron-ls says: unset it, or set it for both",
                              field=LNC)  # fmt: skip
        # Where an older tool does not say the LNC, it may count physical cores.
        counts = {chip.count for chip in self.listed or () if chip.lnc or chip.count != self._physical}
        counts -= {self.devices_per_chip}
        if counts:
            return InputError(f"found LNC {self.lnc}, which makes {self.devices_per_chip} logical cores of a chip, "
                              f"expected {counts.pop()} as neuron-ls says", field=LNC)  # fmt: skip
        most = self.devices_per_chip * len(self.chips)
        if asked.visible is not None and (beyond := [core for core in asked.visible if core >= most]):
            message = f"found core {beyond[0]}, expected 0 to {most - 1}: {len(self.chips)} chips of "
            return InputError(f"{message}{self.devices_per_chip} logical cores", field=VISIBLE)
        return None

    def owners(self, cores: Sequence[int]) -> str | None:
        """Processes that hold cores of the chips of some cores, with the remedy; neuron-ls tells no nearer."""
        numbers = {chip.number for core in cores if (chip := self.chip_of(core))}
        held = [(chip, process) for chip in self.listed or () if chip.number in numbers for process in chip.processes]
        if not held:
            return None
        shown = ", ".join(sorted({f"pid {process.pid} on neuron{chip.number}" for chip, process in held}))
        return (f"cores are held by {shown}: a core is free when its process has ended; stop that, set {VISIBLE} to "
                "cores of another chip, or mark what is measured beside it by --shared")  # fmt: skip

    def no_chip(self) -> str | None:
        """Why there is no chip that the native product trains on, with the remedy."""
        if not self.chips:
            if self.driver:
                return f"the Neuron driver {self.driver} is loaded and shows no chip: is this a Trn2 or Trn3 instance?"
            return "no Neuron driver: on a Trn2 or Trn3 instance, sudo apt-get install aws-neuronx-dkms"
        kind = self.device_name
        if kind is None:
            return "chips do not tell one device_name in the driver's files: update it, " + UPDATE
        if kind == "Trainium1":
            return ("Trainium1 runs the XLA product of torch-neuronx only, which cannot be measured yet: "
                    "use a Trn2 or Trn3 instance")  # fmt: skip
        if kind not in NATIVE_CHIPS:
            return f"{kind} is no chip that the native torch-neuronx trains on: use a Trn2 or Trn3 instance"
        if self.sheet is None:
            return f"no chip sheet has the driver's name {kind!r}: write one with names.neuron_sysfs (perwatt chips)"
        return None

    def misfit(self) -> str | None:
        """Why driver, its file and the runtime do not go together, with the remedy."""
        if self.driver and self.driver_file and self.driver != self.driver_file:
            return (f"driver {self.driver_file} is on the disk and {self.driver} is loaded: reboot, or "
                    "sudo modprobe -r neuron && sudo modprobe neuron")  # fmt: skip
        driver, runtime = neuron_tools.number(self.driver), neuron_tools.number(self.runtime)
        if driver and runtime and driver >= STRICT_DRIVER and runtime < STRICT_RUNTIME:
            return f"driver {self.driver} needs a runtime of 2.33 or later, found {self.runtime}: {UPDATE}"
        return None


def look(
    variables: Mapping[str, str], root: Path = ROOT, tool: neuron_tools.Tool = neuron_tools.run,
    installed: Callable[[], Software] = software,
) -> Stack:  # fmt: skip
    """Look at this machine. Asks no tool where there is no driver.

    Args:
        variables: the process's environment.
        root: of the file system.
        tool: runs a command-line tool.
        installed: tells the software.
    """
    chips, driver = tuple(neuron_sysfs.chips(root)), neuron_sysfs.driver_version(root)
    listed = neuron_tools.listed(tool) if chips else None
    return Stack(
        chips=chips, listed=listed, driver=driver,
        driver_file=neuron_tools.driver_on_disk(tool) if chips else None,
        runtime=neuron_tools.runtime(listed or (), tool) if chips else None,
        installed=installed, variables=variables, root=root,
    )  # fmt: skip
