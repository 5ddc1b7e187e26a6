"""Which NeuronCores are here, what of them can be used, and by how many at once: all that needs no runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from perwatt.backends import neuron_findings, neuron_pins
from perwatt.backends.base import Backend, Device
from perwatt.backends.neuron_cache import Cache
from perwatt.errors import InputError
from perwatt.finding import Finding
from perwatt.hardware import neuron_cores, neuron_stack, neuron_tools
from perwatt.hardware.cgroup import ROOT
from perwatt.hardware.neuron_cores import Cores
from perwatt.hardware.neuron_settings import VISIBLE
from perwatt.hardware.neuron_stack import Stack
from perwatt.power.base import Target
from perwatt.spec.precision import Precision

FP8 = {"Trainium2": "e4m3", "Trainium3": "e4m3fn"}  # nki.isa's matmul: e4m3fn is for NeuronCore-v4 only
SBUF_BYTES = {"Trainium2": 28 * 2**20, "Trainium3": 32 * 2**20}  # of a physical core (architecture guides of NKI)


class Presence(Backend):
    """One logical NeuronCore, before its process takes it.

    Args:
        index: of the core among those that may be used.
        stack: what is here, if somebody has looked already.
    """

    name = "neuron"
    priority = 20
    root: ClassVar[Path] = ROOT

    def __init__(self, index: int = 0, stack: Stack | None = None) -> None:
        self.index = index
        self._looked = stack

    @property
    def stack(self) -> Stack:
        """What is here."""
        if self._looked is None:
            self._looked = neuron_stack.look(dict(os.environ), self.root)
        return self._looked

    @property
    def address(self) -> str:
        """``neuron`` or ``neuron:1``."""
        return f"{self.name}:{self.index}" if self.index else self.name

    def at(self, index: int) -> Backend:
        """The core of that index among those that may be used."""
        there = self.stack
        if not there.missing() and not there.mistake() and index >= len(there.devices):
            cores = f"{len(there.devices)} logical cores of {len(there.chips)} chips may be used"
            raise InputError(f"found core {index}, expected 0 to {len(there.devices) - 1}: {cores}")
        return type(self)(index, there)

    def missing(self) -> str | None:
        """No driver, no chip that the native product trains on, the other product, or parts that do not fit."""
        return self.stack.missing()

    def stands(self) -> bool:
        """Whether the driver shows chips."""
        return bool(self.stack.chips)

    def mistake(self) -> InputError | None:
        """Settings of runtime and compiler that contradict each other, or make every time meaningless."""
        return self.stack.mistake()

    def describe(self) -> Device:
        """The chip by its sheet; memory of one device."""
        there = self.stack
        assert there.sheet is not None  # asked where nothing is missing
        assert there.device_name is not None
        compiler = there.software.neuronx_cc
        return Device(
            chip=there.sheet.name,
            devices_per_chip=there.devices_per_chip,
            memory_bytes=there.memory_bytes,
            # No cache, but memory of the core in which a program may keep what the one before it left there.
            cache_bytes=float(SBUF_BYTES[there.device_name] * there.lnc),
            lnc=there.lnc,
            instance_type=there.instance_type,
            driver=there.driver,
            runtime=there.runtime,
            compiler=f"neuronx-cc {compiler}" if compiler else None,
        )

    def target(self, devices: int = 1) -> Target:
        """The chips of the cores that work, by their numbers."""
        whole = self.stack.devices_per_chip
        found = Backend.target(self)
        partial = "" if devices % whole == 0 else found.partial
        chips = sorted({chip.number for core in self._cores(devices) if (chip := self.stack.chip_of(core))})
        return replace(found, chips=tuple(map(str, chips)), partial=partial, root=self.root)

    def busy(self, devices: int = 1) -> str | None:
        """Processes that hold cores of the chips that are to work. Before workers start none of them is ours."""
        now = replace(self.stack, listed=neuron_tools.listed())
        return now.owners(self._cores(devices))

    def count(self) -> int:
        """Logical cores that may be used."""
        return len(self.stack.devices)

    def unsupported_world(self, world: int) -> str | None:
        """Other numbers than powers of two end in an error of the device's barrier, and so does the next attempt."""
        if reason := super().unsupported_world(world):
            return reason
        if world > 1 and self.index:
            return f"needs {world} cores, --device {self.address} is one of them: expected --device {self.name}"
        if world & (world - 1):
            below = 1 << (world.bit_length() - 1)
            return f"collectives of the native stack join powers of two, found {world}: expected {below} or {2 * below}"
        cores, per_chip = self.stack.devices[:world], self.stack.devices_per_chip
        chips = {chip.number for core in cores if (chip := self.stack.chip_of(core))}
        if world % per_chip == 0 and len(chips) > world // per_chip:  # a rate of so many chips would be of none
            whole = "a whole one" if world == per_chip else f"those of {world // per_chip} whole ones"
            return f"{VISIBLE} starts in the middle of a chip, and {world} cores are {whole}: name all of each chip"
        return None

    def findings(self) -> Iterable[Finding]:
        """Of chips, driver, software, settings, tools, power files and the cache of compiled programs."""
        return neuron_findings.findings(self.stack, Cache(self.stack.variables, make=False))

    def unsupported(self, precision: Precision) -> str | None:
        """What this chip, the compiler's settings or torch cannot do."""
        there = self.stack
        kind = there.device_name or "this chip"
        return neuron_pins.refused(precision, there.settings, FP8.get(kind, ""), kind)

    def _cores(self, devices: int) -> tuple[int, ...]:
        """Numbers of the cores that work on a placement of so many."""
        return self.stack.devices[:devices] if devices > 1 else (self.core,)

    @property
    def core(self) -> int:
        """Number that the runtime has for this logical core."""
        return self.stack.devices[self.index]

    def reckoning(self, devices: int = 1) -> Callable[[], int] | None:
        """Before driver 2.30.2, of the physical cores that work."""
        there = self.stack
        if neuron_cores.live(there.driver):
            return None
        own = [Cores(chip, there.physical(core)) for core in self._cores(devices) if (chip := there.chip_of(core))]
        before = [cores.faults() for cores in own]

        def came() -> int:
            return sum(
                neuron_cores.failed(neuron_cores.moved(then, cores.faults())) or 0
                for then, cores in zip(before, own, strict=True)
            )

        return came

    def numerics(self) -> dict[str, str]:
        """Auto-cast, accumulation, rounding, and the chip's 8-bit format."""
        there = self.stack
        return neuron_pins.numerics(there.settings, FP8.get(there.device_name or "", "unknown"))
