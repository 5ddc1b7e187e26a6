"""What a gate finds: a check of every figure that has a limit, and what happened to rows that cannot be checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from perwatt.analysis.gate_limits import USUAL
from perwatt.analysis.levels import Allowance

PASSED, FAILED, NOTHING = 0, 1, 3  # exit codes


class Outcome(StrEnum):
    """What a check says."""

    PASSED = "passed"
    FAILED = "failed"
    UNCLEAR = "unclear"


MEANING = {
    Outcome.PASSED: "the whole interval is within the limit",
    Outcome.FAILED: "the lower end of the regression is beyond the limit, and stays so among all cases (Holm)",
    Outcome.UNCLEAR: "anything else; it does not fail the gate, and the reason says why nothing was decided",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class GateOptions:
    """How a gate judges.

    Attributes:
        limits: by how much each figure may get worse, relative.
        normalize_by: a workload, case or match key whose change is taken off every other case's.
        strict: whether a case that vanished fails the gate.
        allowance: for what too few runs or chips cannot tell.
    """

    limits: Mapping[str, float] = field(default_factory=lambda: {"time_s": USUAL})
    normalize_by: str | None = None
    strict: bool = False
    allowance: Allowance = field(default_factory=Allowance)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One figure of one case on both sides.

    Attributes:
        baseline: value of the figure in its unit.
        current: the same now.
        worse: relative change for the worse: of a time how much longer, of a rate how much lower; below 0 is better.
        worse_lo: lower end of its 95 % interval; None where nothing tells.
        worse_hi: upper end.
        limit: that was used.
        asked: limit that was asked for; a noise floor above it raises it.
        p: one-sided probability of so large a regression if the true one were at the limit.
        normalized: whether the yardstick's change was taken off.
        runs: processes of the baseline and of now.
    """

    match_key: str
    case: str
    workload: str
    impl: str
    chip: str
    placement: str
    metric: str
    unit: str
    baseline: float
    current: float
    worse: float
    worse_lo: float | None
    worse_hi: float | None
    limit: float
    asked: float
    p: float
    outcome: Outcome
    reason: str
    normalized: bool
    evidence: str
    runs: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A row that is on one side only, or not ok on one.

    Attributes:
        what: what happened to it, with the reason that the row gives.
        file: where it stands, the current one if there is one.
    """

    case: str
    impl: str
    chip: str
    match_key: str | None
    what: str
    file: str
    line: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Yardstick:
    """The case that others are divided by; a ratio above 1 is that it got faster."""

    case: str
    impl: str
    chip: str
    ratio: float
    lo: float | None
    hi: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """All that a gate found.

    Attributes:
        checks: of every figure with a limit that both sides have.
        broken: rows that were ok in the baseline and are not now; they fail the gate.
        vanished: rows that were ok in the baseline and are not there now.
        new: rows that are ok now and were not there in the baseline.
        recovered: rows that are ok now and were not ok in the baseline.
        failing: rows that are ok on neither side.
        not_compared: figures that were not checked, with the reason.
        yardstick: what every other case was divided by.
        notes: what else to know.
        skipped: files that could not be read and were left out.
        strict: whether ``vanished`` fails the gate.
    """

    checks: tuple[Check, ...]
    broken: tuple[Change, ...]
    vanished: tuple[Change, ...]
    new: tuple[Change, ...]
    recovered: tuple[Change, ...]
    failing: tuple[Change, ...]
    not_compared: tuple[Change, ...]
    yardstick: tuple[Yardstick, ...]
    notes: tuple[str, ...]
    skipped: tuple[str, ...]
    strict: bool

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks that fail the gate."""
        return tuple(check for check in self.checks if check.outcome == Outcome.FAILED)

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 3 where nothing was measured that could have failed."""
        if self.failed or self.broken or (self.strict and self.vanished):
            return FAILED
        return PASSED if any(check.worse_lo is not None for check in self.checks) else NOTHING

    def as_json(self) -> dict[str, Any]:
        """The same of plain values, as ``perwatt gate --json`` prints it."""
        return asdict(self) | {"exit_code": self.exit_code, "passed": self.exit_code == PASSED}
