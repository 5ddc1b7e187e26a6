"""The chip sheet: what is published about one chip, as data.

All peaks are dense. A peak belongs to number formats, to a part of the chip (core, device, chip) and to a basis: what
the vendor prints, or what cores, arrays and clock give.
"""

from __future__ import annotations

import math
from dataclasses import field
from typing import Literal

from perwatt.errors import InputError, expected
from perwatt.hardware.figure import Chips, Clock, Compute, Grade, Memory, Power, Rate, Source
from perwatt.hardware.reader import Part, part, rule
from perwatt.spec.precision import FORMATS

Unit = Literal["core", "device", "chip"]
Basis = Literal["vendor", "clock"]
EXTRA_FORMATS = ("e4m3fnuz", "e5m2fnuz", "mxfp4", "nvfp4", "int8")
SHEET_FORMATS = (*FORMATS, *EXTRA_FORMATS)
"""Formats a peak may be given for: those of the precision policies, and those no policy computes in yet."""

KINDS = {
    "fp64": ("fp64",), "fp32": ("fp32",), "tf32": ("tf32",), "bf16": ("bf16",), "fp16": ("fp16",),
    "fp8": ("e4m3fn", "e4m3", "e4m3fnuz", "e5m2", "e5m2fnuz"), "mxfp8": ("mxfp8",),
    "fp4": ("nvfp4", "mxfp4"), "int8": ("int8",),
}  # fmt: skip
"""Formats that are shown in one line, since no chip has all of them."""

CLOSE = 0.005  # what a printed peak may differ from its arithmetic by rounding


@part
class Arithmetic(Part):
    """What a peak by the clock is the product of, with two operations for each multiply-add."""

    cores: int
    multiply_adds: int = rule(doc="of one core in one cycle")
    clock: Clock

    @property
    def tflops(self) -> float:
        """The product."""
        return 2 * self.cores * self.multiply_adds * self.clock.base / 1e12


@part
class Peak(Compute):
    """A dense peak.

    Attributes:
        formats: number formats of the operands.
        per: part of the chip that it is the peak of.
        basis: ``vendor`` as printed, ``clock`` by arithmetic.
        arithmetic: of a peak by the clock.
        dense: how we know, where the ratio to another format alone would make it look sparse.
    """

    formats: tuple[str, ...] = rule(some=True)
    per: Unit = "chip"
    basis: Basis = "vendor"
    arithmetic: Arithmetic | None = None
    dense: str = rule("", doc="why it is dense although it looks like a sparse peak")

    def check(self) -> None:
        """Refuse unknown formats, and a peak by the clock that is not the product it says."""
        for index, name in enumerate(self.formats):
            if name not in SHEET_FORMATS:
                raise InputError(expected(name, SHEET_FORMATS), field=f"formats[{index}]")
        if (self.basis == "clock") != (self.arithmetic is not None):
            raise InputError(f"found basis {self.basis!r}, expected arithmetic with basis clock and only there")
        if self.arithmetic and not math.isclose(self.arithmetic.tflops, self.tflops, rel_tol=CLOSE):
            by = f"{self.arithmetic.tflops:.4g} by its arithmetic"
            raise InputError(f"found {self.tflops:g} TFLOP/s, expected {by}", field="value")


@part
class Link(Rate):
    """A link between chips.

    Attributes:
        name: of the technology.
        scope: how far it reaches.
        direction: ``both`` for the two directions added, ``each`` for one.
    """

    name: str
    scope: str = ""
    direction: Literal["both", "each"] = "both"


@part
class Domain(Chips):
    """Chips that one scale-up network joins.

    Attributes:
        scope: of which system, or over what.
    """

    scope: str = ""


@part
class Identity(Part):
    """Where the facts that are no figures are from: ``released``, ``process`` and ``memory_kind``."""

    source: str
    grade: Grade
    note: str = ""


@part
class Watts(Power):
    """Watts of one chip at full load.

    Attributes:
        id: what results name it by.
        kind: ``rated`` for the vendor's limit, ``assumption`` where the vendor publishes none, ``measured``.
        default: whether it is the nominal one.
    """

    id: str = rule(some=True)
    kind: Literal["rated", "assumption", "measured"]
    default: bool = False


@part
class Cores(Part):
    """What the chip is made of.

    Attributes:
        name: of one core.
        count: cores of the chip.
    """

    name: str
    count: int
    source: str
    grade: Grade


@part
class Devices(Part):
    """Torch devices that make up the chip.

    Attributes:
        by_lnc: their number, by the logical NeuronCore configuration; a chip without one has the key 1.
        default: LNC that the runtime takes by itself.
    """

    by_lnc: dict[str, int]
    default: int = 1
    source: str
    grade: Grade

    def check(self) -> None:
        """Refuse a default that is none of the configurations."""
        if str(self.default) not in self.by_lnc:
            raise InputError(expected(str(self.default), self.by_lnc), field="default")


@part
class Name(Part):
    """A name by which software shows the chip, exactly as it shows it."""

    name: str = rule(some=True)
    source: str


@part
class Names(Part):
    """How torch, NVML, neuron-ls, sysfs and EC2 name the chip."""

    torch: tuple[Name, ...] = ()
    nvml: tuple[Name, ...] = ()
    neuron_sysfs: tuple[Name, ...] = rule((), doc="info/architecture/device_name of a Neuron device")
    neuron_monitor: tuple[Name, ...] = rule((), doc="neuron_device_type of neuron-monitor")
    instance_families: tuple[Name, ...] = rule((), doc="EC2 type up to the dot, as trn2")


@part
class Sheet(Part):
    """One chip.

    Attributes:
        name: the file's name, and the row's ``chip``.
        base: name of a sheet that gives all fields which this file leaves out.
        context: shown for orientation; nothing here measures it.
        identity: where ``released``, ``process`` and ``memory_kind`` are from.
        devices: torch devices that make up the chip; one where there are none.
        watts: of one chip at full load, one of them nominal.
        no_watts: why there are none.
        sources: of this file, beside the shared bibliography.
    """

    name: str = rule(pattern=r"[a-z0-9][a-z0-9.-]*", doc="small letters, digits, dots and hyphens")
    title: str
    vendor: str
    family: str
    base: str | None = None
    context: bool = False
    aliases: tuple[str, ...] = ()
    released: str = ""
    process: str = ""
    identity: Identity | None = None
    cores: Cores | None = None
    devices: Devices | None = None
    peaks: tuple[Peak, ...] = rule(some=True)
    memory: Memory
    memory_kind: str = ""
    bandwidth: Rate
    links: tuple[Link, ...] = ()
    domain: tuple[Domain, ...] = ()
    watts: tuple[Watts, ...] = ()
    no_watts: str = ""
    names: Names = Names()
    sources: dict[str, Source] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse a sheet without nominal watts or the reason for it."""
        if bool(self.watts) == bool(self.no_watts):
            raise InputError("expected either watts or, where none are known, no_watts with the reason", field="watts")
        if self.watts and sum(watts.default for watts in self.watts) != 1:
            raise InputError("expected exactly one entry of watts with default: true", field="watts")
