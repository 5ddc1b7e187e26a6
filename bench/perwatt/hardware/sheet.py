"""The chip sheet: what is published about one chip, as data.

All peaks are dense. A peak belongs to number formats, to a part of the chip (core, device, chip) and to a basis: what
the vendor prints, or what cores, arrays and clock give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from perwatt.hardware.figure import Clock, Compute, Memory, Part, Power, Rate, Source
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

BITS = {"fp64": 64, "fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "nvfp4": 4, "mxfp4": 4}  # all others: 8
CLOSE = 0.005  # what a printed peak may differ from its arithmetic by rounding
SPARSE = 1.8  # times the expected ratio to a wider format from which on a peak looks like a sparse one


class Arithmetic(Part):
    """What a peak by the clock is the product of, with two operations for each multiply-add."""

    cores: int = Field(ge=1)
    multiply_adds: int = Field(ge=1, description="of one core in one cycle")
    clock: Clock

    @property
    def tflops(self) -> float:
        """The product."""
        return 2 * self.cores * self.multiply_adds * self.clock.base / 1e12


class Peak(Compute):
    """A dense peak.

    Attributes:
        formats: number formats of the operands.
        per: part of the chip that it is the peak of.
        basis: ``vendor`` as printed, ``clock`` by arithmetic.
        arithmetic: of a peak by the clock.
        dense: how we know, where the ratio to another format alone would make it look sparse.
    """

    formats: tuple[str, ...] = Field(min_length=1)
    per: Unit = "chip"
    basis: Basis = "vendor"
    arithmetic: Arithmetic | None = None
    dense: str = Field(default="", description="why it is dense although it looks like a sparse peak")

    @model_validator(mode="after")
    def _agrees(self) -> Peak:
        if unknown := [name for name in self.formats if name not in SHEET_FORMATS]:
            raise ValueError(f"found format {unknown[0]!r}, expected one of {', '.join(SHEET_FORMATS)}")
        if (self.basis == "clock") != (self.arithmetic is not None):
            raise ValueError(f"found basis {self.basis!r}, expected arithmetic with basis clock and only there")
        if self.arithmetic and not math.isclose(self.arithmetic.tflops, self.tflops, rel_tol=CLOSE):
            raise ValueError(f"found {self.tflops:g} TFLOP/s, expected {self.arithmetic.tflops:.4g} by its arithmetic")
        return self


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


class Watts(Power):
    """Watts of one chip at full load.

    Attributes:
        id: what results name it by.
        kind: ``rated`` for the vendor's limit, ``assumption`` where the vendor publishes none, ``measured``.
        default: whether it is the nominal one.
    """

    id: str = Field(min_length=1)
    kind: Literal["rated", "assumption", "measured"]
    default: bool = False


class Cores(Part):
    """What the chip is made of.

    Attributes:
        name: of one core.
        count: cores of the chip.
    """

    name: str
    count: int = Field(ge=1)
    source: str
    grade: Literal["A", "B", "C"]


class Name(Part):
    """A name by which software shows the chip, exactly as it shows it."""

    name: str = Field(min_length=1)
    source: str


class Names(Part):
    """How torch, NVML, neuron-ls, sysfs and EC2 name the chip."""

    torch: tuple[Name, ...] = ()
    nvml: tuple[Name, ...] = ()
    neuron_sysfs: tuple[Name, ...] = Field(default=(), description="info/architecture/device_name of a Neuron device")
    neuron_monitor: tuple[Name, ...] = Field(default=(), description="neuron_device_type of neuron-monitor")
    instance_families: tuple[Name, ...] = Field(default=(), description="EC2 type up to the dot, as trn2")


class Sheet(Part):
    """One chip.

    Attributes:
        name: the file's name, and the row's ``chip``.
        base: name of a sheet that gives all fields which this file leaves out.
        context: shown for orientation; nothing here measures it.
        devices: torch devices that make up the chip, by LNC; a chip without LNC has the key 1.
        watts: of one chip at full load, one of them nominal.
        no_watts: why there are none.
        sources: of this file, beside the shared bibliography.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    vendor: str
    family: str
    base: str | None = None
    context: bool = False
    aliases: tuple[str, ...] = ()
    released: str = ""
    process: str = ""
    cores: Cores | None = None
    devices: dict[str, int] = Field(default={"1": 1})
    default_lnc: int | None = None
    peaks: tuple[Peak, ...] = Field(min_length=1)
    memory: Memory
    memory_kind: str = ""
    bandwidth: Rate
    links: tuple[Link, ...] = ()
    domain: str = Field(default="", description="chips that one scale-up network joins")
    watts: tuple[Watts, ...] = ()
    no_watts: str = ""
    names: Names = Names()
    sources: dict[str, Source] = Field(default={})

    @model_validator(mode="after")
    def _consistent(self) -> Sheet:
        if bool(self.watts) == bool(self.no_watts):
            raise ValueError("expected either watts or, where none are known, no_watts with the reason")
        if self.watts and sum(watts.default for watts in self.watts) != 1:
            raise ValueError("expected exactly one entry of watts with default: true")
        if self.default_lnc is not None and str(self.default_lnc) not in self.devices:
            raise ValueError(f"found default_lnc {self.default_lnc}, expected one of {', '.join(self.devices)}")
        return self

    def sparse(self) -> Iterator[str]:
        """Warnings of peaks that look like sparse ones: over 1.8 times what the next wider format leads to expect."""
        here = {
            name: peak for peak in self.peaks if (peak.per, peak.basis) == ("chip", "vendor") for name in peak.formats
        }
        known = sorted(
            (name for name in here if name not in ("fp64", "fp32")), key=bits, reverse=True
        )  # no tensor cores
        for place, name in enumerate(known):
            before = [
                other for other in known[:place] if other != "int8" and (name != "int8" or bits(other) > bits(name))
            ]
            wider = before[-1] if before else None
            if wider is None or here[name].dense:
                continue
            usual = here[wider].tflops * bits(wider) / bits(name)
            if here[name].tflops > SPARSE * usual:
                found = f"{here[name].tflops:g} TFLOP/s for {name} beside {here[wider].tflops:g} for {wider}"
                where = f"{here[name].file}:{here[name].line}: peaks"
                yield f"{where}: found {found}, expected about {usual:g}: is it a sparse peak?"


def bits(name: str) -> int:
    """Width of a format's elements."""
    return BITS.get(name, 8)
