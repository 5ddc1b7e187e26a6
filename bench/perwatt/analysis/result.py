"""What a comparison finds: pairs with verdicts, means of them, and all that was left out, with its reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from perwatt.analysis.levels import Allowance
from perwatt.analysis.verdict import REGION, Ratio, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How sides are compared.

    Attributes:
        baseline: name or column label of the side that ratios are relative to; the first side if None.
        metrics: names of metrics; every one that both sides have if empty.
        track: ``best``, ``like`` or ``all``.
        across_formats: join by task instead of work, training steps only.
        region: half-width R of the region in which ratios are the same.
        allowance: for what too few runs or chips cannot tell.
        mix_power: compare energy of different sources or scopes, marked.
        mix_purchase: compare costs of different kinds of purchase or allocation, marked.
    """

    baseline: str | None = None
    metrics: tuple[str, ...] = ()
    track: str = "all"
    across_formats: bool = False
    region: float = REGION
    allowance: Allowance = field(default_factory=Allowance)
    mix_power: bool = False
    mix_purchase: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One side of a pair.

    Attributes:
        column: label of the column.
        chip: kind of chip.
        placement: on how much hardware.
        impl: implementation, with the layout where rows differ in that.
        precision: format.
        value: of the metric, in its unit.
        runs: processes behind it.
        chips: chips behind it.
        evidence: where the value comes from.
        spread: ``samples`` where the interval is made of raw samples, ``interval`` where of the row's own.
        flags: of its rows.
    """

    column: str
    chip: str
    placement: str
    impl: str
    precision: str
    value: float
    runs: int
    chips: int
    evidence: str
    spread: str
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One case by one metric on two sides.

    Attributes:
        match_key: of the work; across formats the task key.
        ratio: above 1 is better for the candidate.
        lo: lower end of the 95 % interval; None where nothing tells.
        hi: upper end; None too where there is none above a known ``lo``.
        reason: why the verdict is not clear and what would settle it, and what it rests on.
        region: the R that was used.
        evidence: ``measured`` where both sides are, else of both sides.
        common: part of the half-width, as logarithm, that all pairs of these sides share.
        symbol: factor that is not published and that the ratio has to be multiplied by.
        break_even: value of its inverse at which the sides are even.
    """

    match_key: str
    protocol_key: str
    case: str
    workload: str
    metric: str
    unit: str
    track: str
    placement: str
    baseline: Point
    candidate: Point
    ratio: float
    lo: float | None
    hi: float | None
    verdict: Verdict
    reason: str
    region: float
    evidence: str
    common: float = 0.0
    symbol: str | None = None
    break_even: float | None = None

    @property
    def interval(self) -> Ratio:
        """The ratio with its interval."""
        return Ratio(ratio=self.ratio, lo=self.lo, hi=self.hi)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mean:
    """Geometric mean of the ratios of a workload's cases.

    Attributes:
        formats: of the baseline and of the candidate, where rows were joined across formats.
        reason: how many cases have a flag that matters.
    """

    workload: str
    metric: str
    track: str
    placement: str
    baseline: str
    candidate: str
    evidence: str
    formats: str
    cases: int
    ratio: float
    lo: float | None
    hi: float | None
    verdict: Verdict
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A figure that both sides of a case have and that may not be compared, or that one side lacks."""

    match_key: str
    case: str
    metric: str
    baseline: str
    candidate: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """A row that is in no pair."""

    column: str
    file: str
    line: int
    case: str
    impl: str
    match_key: str | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnFacts:
    """A column of the comparison: one kind of chip on one side."""

    label: str
    side: str
    chip: str
    files: int
    rows: int
    groups: int
    raw: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All that a comparison found.

    Attributes:
        baseline: label of the baseline's column.
        columns: kinds of chip on each side, the baseline first.
        pairs: in the order of the baseline's rows.
        means: geometric means by workload.
        refused: figures that were not compared.
        unmatched: rows that are ok and met no row of another column.
        excluded: rows that are not ok, so they enter no comparison.
        skipped: files that could not be read and were left out.
        notes: what else to know.
        options: how it was compared.
    """

    baseline: str
    columns: tuple[ColumnFacts, ...]
    pairs: tuple[Pair, ...]
    means: tuple[Mean, ...]
    refused: tuple[Refusal, ...]
    unmatched: tuple[LeftOut, ...]
    excluded: tuple[LeftOut, ...]
    skipped: tuple[str, ...]
    notes: tuple[str, ...]
    options: Options

    def as_json(self) -> dict[str, Any]:
        """The same of plain values, as ``perwatt compare --json`` prints it."""
        return asdict(self)
