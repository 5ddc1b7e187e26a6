"""What a table of printed figures is made of: sources, models, and rows with the figures of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from perwatt.hardware.figure import DATE, DATED, Grade
from perwatt.hardware.sheet import Peak
from perwatt.results.published import peaks
from perwatt.results.published.conventions import UNKNOWN

Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f-\x9f\u200b-\u202e\u2028-\u2069\ufeff]*$")]
Date = Annotated[str, Field(pattern=f"^({DATE})$", description=DATED["doc"])]
Positive = Annotated[float, Field(gt=0, strict=True)]
Count = Annotated[int, Field(ge=1)]
UNITS = {
    "sequences_per_s": "sequence/s", "tokens_per_s_per_chip": "token/s per chip", "tflops_per_chip": "TFLOP/s per chip",
    "pflops_per_chip": "PFLOP/s per chip", "tflops": "TFLOP/s", "gbps": "GB/s", "time_us": "us", "minutes": "min",
    "mfu": "% MFU", "hfu": "% HFU", "energy_mj": "MJ", "text": "",
}  # fmt: skip


class Part(BaseModel):
    """What every part of a table has in common: no unknown fields, no change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(Part):
    """Where figures were printed."""

    where: Text
    date: Date
    grade: Grade


class Figures(Part):
    """What was printed, each figure in the unit of :data:`UNITS`; MFU and HFU in percent."""

    sequences_per_s: Positive | None = None
    tokens_per_s_per_chip: Positive | None = None
    tflops_per_chip: Positive | None = None
    pflops_per_chip: Positive | None = None
    tflops: Positive | None = None
    gbps: Positive | None = None
    time_us: Positive | None = None
    minutes: Positive | None = None
    mfu: Annotated[float, Field(gt=0, le=100, strict=True)] | None = None
    hfu: Annotated[float, Field(gt=0, le=100, strict=True)] | None = None
    energy_mj: Positive | None = None
    text: Text | None = None

    @property
    def rate(self) -> float | None:
        """Operations of one chip, TFLOP/s."""
        return self.pflops_per_chip * 1e3 if self.pflops_per_chip else self.tflops_per_chip

    def __str__(self) -> str:
        given = {name: value for name, value in self.model_dump().items() if value is not None}
        return "; ".join(f"{_shown(value)} {UNITS[name]}".rstrip() for name, value in given.items())


class Entry(Part):
    """One row of a table.

    Attributes:
        what: what was done, where it is no training of a model.
        detail: what tells the row from others of the same work.
        peak: number format whose peak the MFU is of; ``precision`` unless given.
        printed_peak: TFLOP/s that the source names as the whole of its MFU, where it names them.
        chip: name of the sheet.
        chip_called: what the source calls it, where there is no sheet of its own.
        unit: what the rate is of, ``device`` for one logical NeuronCore.
        convention: name in :data:`~perwatt.results.published.conventions.CONVENTIONS`.
        differs: what is known of why the convention does not give what is printed; only where it does not.
        printed: figures as printed.
        worked_out: MFU in percent by convention, that others worked out from what the source prints.
    """

    workload: Literal["train_step", "gemm", "attention", "memory", "time_to_train"] = "train_step"
    what: Text | None = None
    model: Text | None = None
    seq: Count | None = None
    m: Count | None = None
    n: Count | None = None
    k: Count | None = None
    pass_: Literal["fwd", "bwd", "fwd+bwd", "step"] | None = Field(default=None, alias="pass")
    precision: Text | None = None
    peak: Text | None = None
    printed_peak: Positive | None = None
    chip: Text | None = None
    chip_called: Text | None = None
    chips: Count | None = None
    unit: Literal["chip", "device"] = "chip"
    lnc: Literal[1, 2] | None = None
    placement: Literal["device", "chip", "node", "cluster"] | None = None
    instance_type: Text | None = None
    impl: Text | None = None
    parallel: Text | None = None
    detail: Text | None = None
    power_limit_w: Positive | None = None
    power_scope: Text | None = None
    source: Text
    date: Date | None = None
    grade: Grade | None = None
    convention: Text | None = None
    differs: Text | None = None
    printed: Figures
    worked_out: Mapping[str, Positive] = Field(default_factory=dict)

    @property
    def text(self) -> str:
        """Everything printed, with what the MFU is said to be of."""
        of = f" of {_shown(self.printed_peak)} TFLOP/s" if self.printed_peak else ""
        return f"{self.printed}{of}"

    @property
    def whole(self) -> Peak | None:
        """Dense peak of the chip or device in the row's format; None where no sheet or no format is named."""
        precision = self.peak or self.precision
        if self.chip is None or precision is None or self.workload == "time_to_train":
            return None
        return peaks.peak(self.chip, precision, self.unit, self.lnc)

    @property
    def tokens_per_s_per_chip(self) -> float | None:
        """As printed, or from sequences a second of all chips."""
        if self.printed.sequences_per_s and self.seq and self.chips:
            return self.printed.sequences_per_s * self.seq / self.chips
        return self.printed.tokens_per_s_per_chip

    def gaps(self) -> Iterator[str]:
        """What the fields lack together."""
        if not str(self.printed):
            yield "found no printed figure, expected one"
        if not (self.model or self.what):
            yield "found neither model nor what, expected one"
        if not (self.chip or self.chip_called):
            yield "found neither chip nor chip_called, expected one"
        if 0 < (self.m, self.n, self.k).count(None) < 3:
            yield "found one or two of m, n and k, expected all or none"
        if self.convention is None and (self.printed.mfu is not None or self.printed.rate is not None):
            yield f"found an MFU or a rate, expected a convention with it ({UNKNOWN!r} where none is known)"
        if self.differs and self.convention in (None, UNKNOWN):
            yield "found differs, expected with it the convention that does not give what is printed"


class Model(Part):
    """A model of a table that has no sheet: a shape, or why there is none; ``like`` is a sheet to start from.

    Attributes:
        experts: whether it is a mixture of experts, where no shape says so.
    """

    like: Text | None = None
    shape: dict[str, Any] | None = None
    uncounted: Text | None = None
    experts: bool = False


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.12g}"
