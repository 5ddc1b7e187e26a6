"""Tokens a second of one chip at a training task, by the rows of it.

Rows are of the task where they count the same operations for a token, as all of a model and sequence length do. Of
several the best stands for its chip and width of format: measured before published. For a chip that has none see
:mod:`perwatt.analysis.site.by_sheet`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from perwatt.analysis.columns import POWER_LIMITS, columns
from perwatt.analysis.groups import Column
from perwatt.analysis.levels import FEW, Allowance
from perwatt.analysis.metrics import METRICS
from perwatt.analysis.result import Options
from perwatt.analysis.sides import Side
from perwatt.analysis.site import formats
from perwatt.analysis.site.assumption import Assumption, Product
from perwatt.analysis.site.money import measuring
from perwatt.analysis.site.power import BEYOND, Draw
from perwatt.analysis.table import Rows
from perwatt.hardware import chips
from perwatt.hardware.chips import Chip

EXPERTS = "experts"  # flag of a row
SAME = 1e-6  # relative difference of two counts of one task: rows keep nine digits
RATE, WORK_PER_JOULE = METRICS["tokens_per_s_per_chip"], METRICS["tokens_per_j"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is trained.

    Attributes:
        model: its name.
        seq: tokens of a sequence.
        flops: operations of one token.
        state: bytes of weights, gradients and moments, which the chips of a measurement have to hold.
        experts: whether it is a mixture of experts.
    """

    model: str
    seq: int
    flops: float
    state: float
    experts: bool = False

    def __str__(self) -> str:
        return f"{self.model} at {self.seq} tokens"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """How fast one chip is at the task.

    Attributes:
        width: bits of its number format.
        precision: the format, as the row or the sheet calls it.
        tokens: tokens a second of one chip.
        evidence: ``measured``, ``published``, or ``modeled`` by the sheet's peak and an MFU.
        of: the row, or how it was worked out.
        chips: that worked together.
        mfu: share of the sheet's peak; None where no sheet has one.
        draw: power in the same row, where it was measured.
    """

    width: int
    precision: str
    tokens: Product
    evidence: str
    of: str
    chips: float | None
    mfu: float | None
    draw: Draw | None = None

    @property
    def value(self) -> float:
        """Nominal tokens a second."""
        return float(self.tokens.at({one.name: one.value for one in self.tokens.of}))


@dataclass(frozen=True, slots=True)
class Share:
    """A printed share of a peak, and the row that has it."""

    value: float
    of: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Rates of all chips by name, the best of each width, and what was left out.

    Attributes:
        best: by chip and width.
        printed: shares of peak that sources print of a chip at models whose operations nobody can count, by chip and
            width.
        reached: shares of peak of published rows of any model, by width and in each by chip.
        notes: one line for each kind of row that was left out, or that lacks something.
    """

    best: Mapping[tuple[str, int], Rate]
    printed: Mapping[tuple[str, int], Sequence[Share]]
    reached: Mapping[int, Mapping[str, Sequence[float]]]
    notes: tuple[str, ...]

    @property
    def widths(self) -> list[int]:
        """Widths of format that some row has, the widest first."""
        return sorted({width for _, width in self.best}, reverse=True)


def read(sides: Sequence[Side], task: Task, allowance: Allowance) -> Rates:
    """The best rate of every chip that has a sheet, and what else rows say."""
    found: list[tuple[str, Rate]] = []
    left: dict[str, int] = {}
    seen = _Seen()
    for side in sides:
        rows = side.rows.where(side.rows.is_text("workload", "train_step"))
        kept = np.array([_fits(rows, row, task, left, seen) for row in range(len(rows))], dtype=bool)
        published = rows.is_text("time_evidence", "published")
        found += [_published(rows, int(row), task, allowance) for row in np.flatnonzero(kept & published)]
        found += _measured(Side(name=side.name, rows=rows.where(kept & ~published)), task, allowance, left)
    best: dict[tuple[str, int], Rate] = {}
    for chip, rate in sorted(found, key=lambda item: (item[1].evidence != "measured", -item[1].value)):
        best.setdefault((chip, rate.width), rate)
    notes = tuple(f"{count} {'row' if count == 1 else 'rows'} {why}" for why, count in left.items())
    return Rates(best=best, printed=seen.printed, reached=seen.reached, notes=notes)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Shares of peak that were met on the way; see :class:`Rates`."""

    printed: dict[tuple[str, int], list[Share]] = field(default_factory=dict)
    reached: dict[int, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, rows: Rows, row: int, chip: str, width: int) -> None:
        """What a published row says of a chip of that name, at any model of the task's kind."""
        if rows.number("tokens", row) is None and (share := rows.number("printed_mfu", row)):
            self.printed.setdefault((chip, width), []).append(Share(share, rows.text("case", row) or ""))
        if share := rows.number("mfu", row):
            self.reached.setdefault(width, {}).setdefault(chip, []).append(share)


def _fits(rows: Rows, row: int, task: Task, left: dict[str, int], seen: _Seen) -> bool:
    """Whether a row is of the task and of a chip as the site would have it; counts why not."""
    name, precision = rows.text("chip", row) or "", rows.text("precision", row) or ""
    sheet, width = chips.known(name), formats.width(precision)
    tokens, flops = rows.number("tokens", row), rows.number("flops", row)
    published = rows.text("time_evidence", row) == "published"
    alike = (EXPERTS in (rows.text("flags", row) or "").split()) == task.experts
    if published and alike and sheet and width and not _other_power(rows, row, sheet):
        seen.add(rows, row, sheet.name, width)
    if not (tokens and flops and math.isclose(flops / tokens, task.flops, rel_tol=SAME)):
        return False  # another task, which is no reason to say anything
    if why := _why_not(rows, row, sheet, width):
        left[f"left out: {why}"] = left.get(f"left out: {why}", 0) + 1
    return not why


def _why_not(rows: Rows, row: int, sheet: Chip | None, width: int | None) -> str:
    name = rows.text("chip", row) or ""
    if rows.text("status", row) != "ok":
        return f"{rows.text('status', row)} on {name}"
    if rows.text("time_evidence", row) == "modeled":
        return f"modeled, not measured, on {name}"
    if sheet is None:
        return f"{name!r} has no sheet (perwatt chips)"
    if width is None:
        return f"nobody says how wide {rows.text('precision', row)!r} is"
    if rows.number("tokens_per_s_per_chip", row) is None or rows.text("per_layer", row) == "yes":
        return f"not of a whole chip and a whole model, on {name}"
    return _other_power(rows, row, sheet)


def _other_power(rows: Rows, row: int, sheet: Chip) -> str:
    """Why a row is of no such chip as the sheet's, by its power limit; empty where it is or does not say."""
    limit, usual = rows.number("power_limit_w", row), sheet.power.base if sheet.power else None
    if limit and usual and not 1 / POWER_LIMITS <= limit / usual <= POWER_LIMITS:
        return f"{rows.text('chip', row)} at {limit:g} W is not the chip of its sheet ({usual:g} W)"
    return ""


def _published(rows: Rows, row: int, task: Task, allowance: Allowance) -> tuple[str, Rate]:
    """A printed rate, off by as much as one chip may be from another."""
    value = rows.number("tokens_per_s_per_chip", row) or 0.0
    case = rows.text("case", row) or ""
    figure = Assumption(
        name=f"rate: {case}", value=value, lo=value / (1 + allowance.chip), hi=value * (1 + allowance.chip),
        unit="token/s", shape="normal", evidence="published", settle=_step(rows, row, task),
        source=f"{rows.text('source', row)}, grade {rows.text('grade', row)}; ±{allowance.chip:.0%} between chips",
    )  # fmt: skip
    return _rate(rows, row, figure, case, None)


def _measured(side: Side, task: Task, allowance: Allowance, left: dict[str, int]) -> list[tuple[str, Rate]]:
    """Rows of runs in groups, each with the interval of all levels that were measured."""
    found = []
    for column in columns([side], Options(allowance=allowance))[0]:
        for group in range(column.size):
            row = int(column.first[group])
            value, down, up = _with_chips(column, group, "rate", allowance)
            case = f"{column.text('case', group) or column.rows.text('case', row)}, {column.how(group)}"
            figure = Assumption(
                name=f"rate: {column.chip}: {case}", value=value, lo=value / math.exp(down), hi=value * math.exp(up),
                unit="token/s", shape="normal", evidence="measured", source=column.label,
                settle=_step(column.rows, row, task),
            )  # fmt: skip
            found.append(_rate(column.rows, row, figure, case, _draw(column, group, value, allowance, left)))
    return found


def _with_chips(column: Column, group: int, kind: str, allowance: Allowance) -> tuple[float, float, float]:
    """Value and half-widths, as logarithms, with what too few chips cannot tell."""
    figure = column.figure(RATE if kind == "rate" else WORK_PER_JOULE, group)
    few = math.log1p(allowance.chip) / math.sqrt(figure.chips) if 0 < figure.chips < FEW else 0.0
    down, up = (0.0 if math.isnan(side) else side for side in (figure.down, figure.up))
    return math.exp(figure.log), math.hypot(down, few), math.hypot(up, few)


def _draw(column: Column, group: int, rate: float, allowance: Allowance, left: dict[str, int]) -> Draw | None:
    """Watts of one chip by the energy window of the same rows; None where no sensor measured them."""
    evidence = column.texts("energy_evidence", group, column.values(WORK_PER_JOULE))
    scopes = column.texts("power_scope", group, column.values(WORK_PER_JOULE))
    if evidence != ("measured",) or len(scopes) != 1 or scopes[0] not in BEYOND:
        why = f"without measured energy: the average power of {column.chip} is by its rating"
        left[why] = left.get(why, 0) + len(column.members[group])
        return None
    each, down, up = _with_chips(column, group, "joule", allowance)
    gain = column.rows.number("energy_rel_sys", int(column.first[group])) or 0.0
    down, up = math.hypot(down, gain), math.hypot(up, gain)
    watts = Assumption(
        name=f"watts: {column.chip}: {column.how(group)}", value=rate / each, lo=rate / each / math.exp(up),
        hi=rate / each * math.exp(down), unit="W", shape="normal", evidence="measured",
        source=f"{column.label}, sensor of the {scopes[0]}", settle="the same by an outside meter",
    )  # fmt: skip
    return Draw(watts=watts, scope=scopes[0])


def _rate(rows: Rows, row: int, figure: Assumption, of: str, draw: Draw | None) -> tuple[str, Rate]:
    sheet, precision = chips.known(rows.text("chip", row) or ""), rows.text("precision", row) or ""
    width = formats.width(precision)
    assert sheet is not None  # _fits has seen to both
    assert width is not None
    return sheet.name, Rate(
        width=width, precision=precision, tokens=Product(1.0, (figure,)), evidence=figure.evidence, of=of,
        chips=rows.number("chips", row), mfu=rows.number("mfu", row), draw=draw,
    )  # fmt: skip


def _step(rows: Rows, row: int, task: Task) -> str:
    name = rows.text("chip", row) or ""
    return measuring(name, f"a training step of the task in {rows.text('precision', row)} on {name}", task.state)
