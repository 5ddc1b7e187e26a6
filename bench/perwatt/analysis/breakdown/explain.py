"""A step's time from its parts: each by the nearest row of the same run, the rest with its sign.

A row stands for a part where its workload, number format and direction are the part's. Of those the nearest in size is
taken, scaled by the work where it is not the same size; of rows as near, one of the step's class of implementation and
with a hot cache, since inside a step operands come from the operation before. What could not be had is named beside the
part. Where a backward was measured only together with its forward, both take their share of that row by work, so that
their sum is right. A sum above the step means that parts overlap, or are faster in it than alone; a sum below it, that
something takes time that no part measures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from perwatt.analysis.breakdown import parts
from perwatt.analysis.breakdown.parts import GROUPS, HALVES, Part
from perwatt.errors import InputError
from perwatt.results.schema import Row
from perwatt.spec.model import ModelShape
from perwatt.spec.precision import POLICIES

LARGE = 0.25  # share of the step from which the rest is flagged
FAR = 8.0  # factor in work beyond which no row stands for a part
ENDS = ("seconds", "lo", "hi")
TOGETHER = "fwd+bwd"
LIKE = ("product",)  # texts in which a row may differ, marked; any other has to be the part's


@dataclass(frozen=True, kw_only=True, slots=True)
class Explained:
    """One part with its time.

    Attributes:
        seconds: in the step, ``lo`` and ``hi`` by the row's 95 % interval; None where no row stands for it.
        case: of the row, with its implementation.
        remarks: how the row differs from what was wanted.
        missing: the case that would measure it.
    """

    part: Part
    seconds: float | None
    lo: float | None
    hi: float | None
    case: str
    remarks: tuple[str, ...]
    missing: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Breakdown:
    """One step explained.

    Attributes:
        step: its row.
        parts: all of them.
        rest: step less the sum of parts, in seconds with its sign; ``lo`` and ``hi`` by the intervals of all rows.
    """

    step: Row
    parts: tuple[Explained, ...]
    rest: float
    rest_lo: float
    rest_hi: float

    @property
    def seconds(self) -> float:
        """Of the step."""
        return self.step.time_s or math.nan

    @property
    def flagged(self) -> bool:
        """Whether the rest is too large for the parts to explain the step."""
        return abs(self.rest) > LARGE * self.seconds

    def groups(self) -> dict[str, tuple[float, float, float]]:
        """Seconds of each group that has any, with the ends of its interval."""
        found = {}
        for group in GROUPS:
            members = [one for one in self.parts if one.part.group == group and one.seconds is not None]
            if members:
                total, down, up = _sum(members)
                found[group] = (total, total - down, total + up)
        return found

    def as_json(self) -> dict[str, Any]:
        """The same of plain values."""
        return {
            "case": self.step.case, "impl": self.step.impl, "impl_class": self.step.impl_class, "chip": self.step.chip,
            "run_id": self.step.run_id, "seconds": self.seconds, "flagged": self.flagged,
            "groups": {group: dict(zip(ENDS, ends, strict=True)) for group, ends in self.groups().items()},
            "rest": {"seconds": self.rest, "lo": self.rest_lo, "hi": self.rest_hi, "share": self.rest / self.seconds},
            "parts": [asdict(one) for one in self.parts],
        }  # fmt: skip


def breakdowns(rows: Sequence[Row]) -> list[Breakdown]:
    """Every training step of these rows that is ok, explained by rows of its own run.

    Raises:
        InputError: there is no such step, or no run has another row beside it.
    """
    steps = [row for row in rows if row.workload == "train_step" and row.status == "ok" and row.work and row.time_s]
    if not steps:
        raise InputError("found no training step of a run, expected one that is ok")
    return [explain(row, _beside(row, rows)) for row in steps]


def _beside(step: Row, rows: Iterable[Row]) -> list[Row]:
    """Microbenchmarks of the same run on the same chip, of one device's or of the step's own placement."""
    return [
        row for row in rows
        if row.run_id == step.run_id and row.chip == step.chip and row.status == "ok" and row.work and row.time_s
        and row.workload != "train_step" and row.lnc == step.lnc
    ]  # fmt: skip


def explain(step: Row, beside: Sequence[Row]) -> Breakdown:
    """One step by these rows."""
    known = [(row, _sizes(row)) for row in beside]
    found = tuple(_explained(part, step, known) for part in parts.parts(parts.step(step)))
    total, down, up = _sum(found)
    time = step.time_s or math.nan
    early, late = time - (step.time_s_lo or time), (step.time_s_hi or time) - time
    rest = time - total
    return Breakdown(
        step=step, parts=found, rest=rest, rest_lo=rest - math.hypot(up, early), rest_hi=rest + math.hypot(down, late)
    )


def _sum(members: Iterable[Explained]) -> tuple[float, float, float]:
    """Seconds, and half-widths below and above: of parts by one row they add up, of different rows in quadrature."""
    total, widths = 0.0, {"": (0.0, 0.0)}
    for one in members:
        value = one.seconds or 0.0
        down, up = widths.get(one.case, (0.0, 0.0))
        widths[one.case] = down + value - (one.lo or 0.0), up + (one.hi or 0.0) - value
        total += value
    return total, math.hypot(*(down for down, _ in widths.values())), math.hypot(*(up for _, up in widths.values()))


def _sizes(row: Row) -> Mapping[str, Any]:
    """Parameters of a row's work; of an optimizer the number of weights."""
    params: dict[str, Any] = json.loads(row.work or "{}").get("params", {})
    if row.workload == "optimizer_step":
        params["parameters"] = ModelShape(**params["model"]).parameters
    return params


Known = Sequence[tuple[Row, Mapping[str, Any]]]


def _explained(part: Part, step: Row, known: Known) -> Explained:
    able = [item for item in known if _fits(part, step, *item)]
    apart = any(row.pass_ == "bwd" for row, _ in able)
    fitting = [item for item in able if (item[0].pass_ == part.pass_ if apart else item[0].pass_ != "bwd")]
    if not apart and part.pass_ in HALVES and any(row.pass_ == TOGETHER for row, _ in fitting):
        fitting = [item for item in fitting if item[0].pass_ == TOGETHER]
    fitting = [item for item in fitting if item[0].pass_ in (part.pass_, TOGETHER)]
    nearest = min(fitting, key=lambda item: _distance(part, step, *item), default=None)
    wanted = f"{part.workload} {_shown(part)}, pass {part.pass_}, {step.precision}"
    if nearest is None:
        return Explained(part=part, seconds=None, lo=None, hi=None, case="", remarks=(), missing=wanted)
    row, sizes = nearest
    scale = part.count / _ratio(part, sizes) * (part.share if row.pass_ == TOGETHER else 1.0)
    remarks = tuple(_remarks(part, step, row, sizes))
    lo, hi = row.time_s_lo or row.time_s, row.time_s_hi or row.time_s
    return Explained(
        part=part, seconds=(row.time_s or 0.0) * scale, lo=(lo or 0.0) * scale, hi=(hi or 0.0) * scale,
        case=f"{row.case}, {row.impl}", remarks=remarks,
    )  # fmt: skip


def _fits(part: Part, step: Row, row: Row, sizes: Mapping[str, Any]) -> bool:
    """Whether a row measured the part's kind of work, in its format, and not much more or less of it."""
    if row.workload != part.workload or _compute(row) != _compute(step):
        return False
    for name, value in part.params.items():
        if not sizes.get(name) or (isinstance(value, str) and name not in LIKE and sizes[name] != value):
            return False
    return 1 / FAR <= _ratio(part, sizes) <= FAR


def _compute(row: Row) -> str | None:
    policy = POLICIES.get(row.precision or "")
    return policy.compute if policy else row.precision


def _numbers(part: Part) -> list[tuple[str, float]]:
    return [(name, value) for name, value in part.params.items() if not isinstance(value, str)]


def _ratio(part: Part, sizes: Mapping[str, Any]) -> float:
    """Work of a row over that of the part, to which every size but :attr:`Part.beside` is a factor."""
    return math.prod(float(sizes[name]) / value for name, value in _numbers(part) if name not in part.beside)


def _distance(
    part: Part, step: Row, row: Row, sizes: Mapping[str, Any]
) -> tuple[float, bool, bool, bool, bool, float]:  # fmt: skip
    """How far a row is from the part: in size, then by product, class, precision and cache; of equals the fastest."""
    apart = math.fsum(abs(math.log(sizes[name] / value)) for name, value in _numbers(part))
    return (
        round(apart, 6), not _alike(part, sizes), row.impl_class != step.impl_class, row.precision != step.precision,
        row.cache == "cold", row.time_s or 0.0,
    )  # fmt: skip


def _alike(part: Part, sizes: Mapping[str, Any]) -> bool:
    return all(sizes[name] == value for name, value in part.params.items() if isinstance(value, str))


def _remarks(part: Part, step: Row, row: Row, sizes: Mapping[str, Any]) -> Iterable[str]:
    if any(sizes[name] != value for name, value in _numbers(part)):
        yield f"other sizes, x {1 / _ratio(part, sizes):.3g}"
    if not _alike(part, sizes):
        yield "another product"
    if row.pass_ != part.pass_:
        yield f"its share of {TOGETHER}"
    if row.impl_class != step.impl_class:
        yield f"{row.impl_class}, the step is {step.impl_class}"
    if row.cache == "cold":
        yield "cold cache"


def _shown(part: Part) -> str:
    return " ".join(f"{name} {value}" for name, value in part.params.items())
