"""The third level: what measured rows say, paired and bounded as ``perwatt compare`` does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from perwatt.analysis.claims import wanted
from perwatt.analysis.claims.claim import Claim, Side
from perwatt.analysis.claims.judging import Span, Word, alike, falls_short, in_form, judge, ratio_of
from perwatt.analysis.claims.result import Level, joined, unnamed
from perwatt.analysis.claims.sieves import format_of, kept
from perwatt.analysis.compare import compare
from perwatt.analysis.levels import FEW
from perwatt.analysis.result import Comparison, Options, Pair
from perwatt.analysis.sides import Side as Given
from perwatt.errors import InputError
from perwatt.hardware import chips

MEASURED, STEPS = "measured", "train_step"
WATTS = (
    "watts of {} are published by nobody, and the driver gives percentages of an unknown maximum: what is modeled "
    "enters no measured claim, rows with a meter do"
)

TWO_FORMATS = (
    "products in {} are different work and never paired; training steps are, by task: what they get of a peak may "
    "support a claim on it, and cannot contradict it"
)
AT_BEST = "a row may support a claim of what is reached at best, and none contradicts it"
SAME = "one chip on both sides with other software: perwatt compare OLD.csv NEW.csv tells such rows apart"


def measured(claim: Claim, given: Given | None) -> Level:
    """What measured rows say of a claim.

    Args:
        claim: to be judged.
        given: everything that was measured, of any chip; None where there is nothing.
    """
    if claim.not_testable:
        return Level(verdict=Word.NOT_TESTABLE, basis=(claim.not_testable,))
    return unnamed(claim, joined([_level(condition, given) for condition in claim.conditions]))


def _level(claim: Claim, given: Given | None) -> Level:
    formats = [one for one in dict.fromkeys(format_of(claim, side) for side in claim.sides) if one]
    if not (claim.quantity.across and len(formats) > 1):
        return _of_rows(claim, given)
    found = _of_rows(replace(claim, metric=claim.quantity.across), given)
    word = Word.NOT_DECIDED if found.verdict == Word.CONTRADICTED else found.verdict
    return replace(found, verdict=word, basis=(*found.basis, TWO_FORMATS.format(" and ".join(formats))))


def _of_rows(claim: Claim, given: Given | None) -> Level:
    if reason := _untestable(claim):
        return Level(verdict=Word.NOT_TESTABLE, basis=(reason,))
    if given is None:
        return _open(claim, ["no measured rows"])
    found = [kept(claim, side, given) for side in claim.sides]
    reasons = [reason for one in found for reason in one.reasons]
    gone = [side for side, one in zip(claim.sides, found, strict=True) if not one.some]
    if gone:
        names = " or ".join(dict.fromkeys(side.chip for side in gone))
        return _open(claim, [f"no measured row of {names}{' is left' if reasons else ''}", *reasons], gone)
    top, bottom = (one.given for one in found)
    try:
        compared = _compared(claim, claim.quantity.row, top, bottom)
    except InputError as error:
        return _open(claim, [*reasons, error.message])
    pairs = [pair for pair in _pairs(compared, top) if pair.evidence == MEASURED]
    if claim.quantity.best:
        pairs = sorted(pairs, key=lambda pair: pair.candidate.value)[-1:]
    if not pairs:
        return _open(claim, [*reasons, *_why(claim, compared, top), *_percent(claim, top, bottom)])
    return _judged(claim, pairs, reasons)


def _untestable(claim: Claim) -> str:
    """Why no row of any kind tells."""
    if not claim.quantity.row:
        return claim.quantity.no_row
    if claim.denominator is None:
        return "a figure of a sheet is no row: only ratios are measured"
    lacking = [side.title for side in claim.sides if not side.chip]
    if lacking:
        return f"there is no sheet of {' or '.join(lacking)}"
    top, bottom = claim.sides
    return SAME if (top.chip, top.format) == (bottom.chip, bottom.format) else ""


def _compared(claim: Claim, metric: str, top: Given, bottom: Given) -> Comparison:
    """Both sides as ``perwatt compare`` pairs them; by task where the claim is across formats."""
    formats = {format_of(claim, side) for side in claim.sides}
    across = claim.quantity.workload == STEPS and len(formats) > 1
    options = Options(metrics=(metric,), track="best", across_formats=across)
    return compare(bottom, top, options=options)


def _pairs(found: Comparison, top: Given) -> Iterator[Pair]:
    """Pairs of the two sides; a side may have several columns, by power limit."""
    own = {column.label for column in found.columns if column.side == top.name}
    return (pair for pair in found.pairs if pair.candidate.column in own)


def _judged(claim: Claim, pairs: Sequence[Pair], reasons: Sequence[str]) -> Level:
    spans = [_span(claim, pair) for pair in pairs]
    few = [min(pair.baseline.runs, pair.candidate.runs) < FEW for pair in pairs]
    words = [
        Word.NOT_DECIDED if short else judge(claim, span, roof=False) for short, span in zip(few, spans, strict=True)
    ]
    best_case = claim.quantifier == "up_to" and Word.SUPPORTED in words
    word = Word.SUPPORTED if best_case else alike(words)
    whole = _whole(spans)
    missing, command = tuple[str, ...](), None
    if word == Word.NOT_DECIDED and falls_short(claim, whole):
        missing = wanted.better_case(claim)
    elif word == Word.NOT_DECIDED:
        runs = (_runs(pair) for pair, short in zip(pairs, few, strict=True) if short)
        missing, command = tuple(dict.fromkeys(runs)) or wanted.narrower(whole), wanted.command(claim)
    return Level(
        verdict=word, found=whole, basis=(*map(_line, pairs), *reasons), quality=_quality(pairs), missing=missing,
        command=command,
    )  # fmt: skip


def _span(claim: Claim, pair: Pair) -> Span:
    lo, hi = (None if end is None else in_form(claim, end) for end in (pair.lo, pair.hi))
    return Span(value=in_form(claim, pair.ratio), lo=lo, hi=hi)


def _whole(spans: Sequence[Span]) -> Span:
    """The figure of all cases: their mean, with ends that hold every case's."""
    lows, highs = ([getattr(span, end) for span in spans] for end in ("lo", "hi"))
    known = None not in lows and None not in highs
    middle = spans[0].value if len(spans) == 1 else float(np.mean([span.value for span in spans]))
    return Span(value=middle, lo=min(lows) if known else None, hi=max(highs) if known else None)


def _runs(pair: Pair) -> str:
    ends = " and ".join(f"{end.runs} on {end.chip}" for end in (pair.candidate, pair.baseline))
    return f"{FEW} runs or more on each side of {pair.case}; there are {ends}"


def _line(pair: Pair) -> str:
    interval = (
        "no interval" if pair.lo is None else f"{pair.lo:.3g} to {'open' if pair.hi is None else f'{pair.hi:.3g}'}"
    )
    values = f"{pair.candidate.value:.4g} on {pair.candidate.chip}, {pair.baseline.value:.4g} on {pair.baseline.chip}"
    formats = " and ".join(dict.fromkeys((pair.candidate.precision, pair.baseline.precision)))
    reason = f"; {pair.reason}" if pair.reason else ""
    return f"{pair.case} {formats}, {pair.metric}: {values}: {pair.ratio:.3g} ({interval}){reason}"


def _quality(pairs: Sequence[Pair]) -> str:
    ends = [end for pair in pairs for end in (pair.baseline, pair.candidate)]
    least = {"run": min(end.runs for end in ends), "chip": min(end.chips for end in ends)}
    told = " and ".join(f"{count} {name}{'s' if count != 1 else ''}" for name, count in least.items())
    return f"measured, {len(pairs)} case{'s' if len(pairs) > 1 else ''}, {told} a side"


def _open(claim: Claim, basis: Sequence[str], sides: Sequence[Side] = ()) -> Level:
    """Not decided for want of rows; not testable where the chips by themselves could never give them."""
    unknown = [side.chip for side in claim.sides if claim.quantity.energy and _unknown_watts(side)]
    told = [WATTS.format(" and ".join(dict.fromkeys(unknown)))] if unknown else []
    told += [AT_BEST] if claim.quantifier == "up_to" else []
    return Level(
        verdict=Word.NOT_TESTABLE if unknown else Word.NOT_DECIDED,
        basis=tuple(dict.fromkeys([*told, *basis, *wanted.too_large(claim)])), missing=wanted.rows(claim, sides),
        command=wanted.command(claim),
    )  # fmt: skip


def _unknown_watts(side: Side) -> bool:
    power = chips.load(side.chip).power
    return power is None or power.kind == "assumption"


def _why(claim: Claim, found: Comparison, top: Given) -> Iterator[str]:
    """Why rows of both sides made no pair, each reason once."""
    yield from dict.fromkeys(refusal.reason for refusal in found.refused)
    modeled = [pair for pair in _pairs(found, top) if pair.evidence != MEASURED]
    if modeled:
        yield f"{claim.quantity.row} is {modeled[0].evidence} there, which enters no measured claim"
    yield from dict.fromkeys(f"{one.column}: {one.reason}" for one in (*found.unmatched, *found.excluded))
    if not (found.refused or found.unmatched or found.excluded or modeled):
        yield f"no row has {claim.quantity.row}"


def _percent(claim: Claim, top: Given, bottom: Given) -> Iterator[str]:
    """What percentages say of energy without any watts: where the claim would hold."""
    if not claim.quantity.percent:
        return
    for pair in _pairs(_compared(claim, claim.quantity.percent, top, bottom), top):
        if pair.symbol:
            most = pair.ratio / ratio_of(claim)
            inverse = f"P_max({pair.candidate.chip})/P_max({pair.baseline.chip})"
            yield f"{pair.case}: {pair.ratio:.3g} x {pair.symbol}; {claim.said} where {inverse} is {most:.3g} or less"
