"""What claims are about: which figure of a sheet says it, and which figure of rows does. A closed list."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from perwatt.hardware.figure import Memory, Power, Rate

Sheet = Literal["peak", "peak_per_watt", "memory", "bandwidth", "link", "chips", "power", "cost_of_peak", ""]
FLOPS = {"TFLOP/s": 1e12, "PFLOP/s": 1e15, "EFLOP/s": 1e18}


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """One metric that a claim may name.

    Attributes:
        title: for people.
        sheet: figure of the sheets that says it, or is the roof of it; empty where they say nothing.
        achieved: whether the sheets only have its roof, so that they speak of equal fractions of the roofs.
        per_chip: whether it is of one chip whatever the side is.
        better: 1 where more is better, -1 where less is.
        row: metric of rows (:data:`perwatt.analysis.metrics.METRICS`); empty where no row has it.
        percent: metric of rows with the same per percent-second, which needs no watts.
        workload: of rows that test it.
        published: column of published rows that says it; empty where they say nothing.
        across: metric of training steps that stands for it where the sides are in two formats, since products in two
            formats are never paired.
        cold: whether only rows with a cold cache say it.
        best: whether the fastest case alone says it.
        suite: that has rows to test it.
        only: names of its cases.
        units: of a figure without a denominator, in the base unit.
        no_row: why no row tests it.
    """

    title: str
    sheet: Sheet = ""
    achieved: bool = False
    per_chip: bool = False
    better: Literal[1, -1] = 1
    row: str = ""
    percent: str = ""
    workload: str = ""
    published: str = ""
    across: str = ""
    cold: bool = False
    best: bool = False
    suite: str = ""
    only: tuple[str, ...] = ()
    units: dict[str, float] = field(default_factory=dict)
    no_row: str = ""

    @property
    def energy(self) -> bool:
        """Whether rows need energy for it."""
        return bool(self.percent)


PRODUCT, MEMORY, HEADLINE, EIGHT_BIT = ("product*",), ("memory",), ("matched headline*",), ("headline in 8 bits*",)
"""Cases of the suites ``claims`` and ``headline``."""

QUANTITIES: dict[str, Quantity] = {
    "peak": Quantity(
        title="peak", sheet="peak", row="tflops_per_chip", across="tokens_per_s_per_chip", workload="gemm",
        published="tflops_per_chip", best=True,
        suite="claims", only=PRODUCT, units=FLOPS,
    ),
    "peak_per_watt": Quantity(
        title="peak per watt", sheet="peak_per_watt", row="tflops_per_w", percent="tflops_per_pct",
        across="tokens_per_j", workload="gemm",
        best=True, suite="claims", only=PRODUCT, units={f"{name}/W": one for name, one in FLOPS.items()},
    ),
    "memory": Quantity(
        title="memory capacity", sheet="memory", units=Memory.scale,
        no_row="a capacity is looked up, not timed: perwatt doctor shows that of a chip",
    ),
    "bandwidth": Quantity(
        title="memory bandwidth", sheet="bandwidth", row="time_s", workload="memcpy", cold=True, suite="claims",
        only=MEMORY, units=Rate.scale,
    ),
    "link_bandwidth": Quantity(
        title="bandwidth between chips", sheet="link", units=Rate.scale, no_row="no workload times links between chips",
    ),
    "link_latency": Quantity(
        title="latency between chips", better=-1, units={"us": 1e-6}, no_row="no workload times links between chips",
    ),
    "chips": Quantity(title="chips", sheet="chips", units={"chips": 1.0}, no_row="a number of chips is no measurement"),
    "power": Quantity(title="watts of the chips", sheet="power", units=Power.scale, no_row="watts are no work"),
    "tokens_per_s": Quantity(
        title="training tokens per second", sheet="peak", achieved=True, row="tokens_per_s", workload="train_step",
        published="tokens_per_s_per_chip", suite="headline", only=HEADLINE,
    ),
    "tokens_per_s_per_chip": Quantity(
        title="training tokens per second and chip", sheet="peak", achieved=True, per_chip=True,
        row="tokens_per_s_per_chip", workload="train_step", published="tokens_per_s_per_chip", suite="headline",
        only=HEADLINE,
    ),
    "tokens_per_j": Quantity(
        title="training tokens per joule", sheet="peak_per_watt", achieved=True, row="tokens_per_j",
        percent="tokens_per_pct_s", workload="train_step", published="tokens_per_j", suite="headline", only=HEADLINE,
    ),
    "usd_per_mtok": Quantity(
        title="dollars per million training tokens", sheet="cost_of_peak", achieved=True, better=-1, row="usd_per_mtok",
        workload="train_step", suite="headline", only=HEADLINE,
    ),
    "mfu": Quantity(
        title="share of the peak", row="mfu", workload="train_step", published="mfu", suite="headline", only=HEADLINE,
    ),
    "inference": Quantity(title="throughput of inference", no_row="perwatt measures training, not inference"),
    "service": Quantity(title="figures of a service", no_row="the figures are inside a service"),
    "unstated": Quantity(title="something the claim does not say", no_row="the claim names no quantity"),
}  # fmt: skip
"""Every metric by name."""
