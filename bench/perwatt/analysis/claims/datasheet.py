"""The first level: what data sheets say of a claim, and what chips could do at most."""

from __future__ import annotations

from dataclasses import replace

from perwatt.analysis.claims.claim import Claim, Shown, a_scope
from perwatt.analysis.claims.judging import Span, Word, in_form, judge, ratio_of
from perwatt.analysis.claims.result import Level, joined, unnamed
from perwatt.analysis.claims.terms import NoFigureError, Term, over, term

TWICE = 2.0
"""Times the fraction of its roof that one chip may reach of what another does before roofs contradict a claim.

The best products that are published of a chip take from 51 to 90 % of its peak (docs/published.md), so one that needs
twice the fraction of another's is beyond its own roof where the other runs at half of its.
"""
OF_CHIPS = "the claim is of {}, the sheets are of chips: a claim about a system is not judged from chips"
ROOM = "a roof at or above what is claimed leaves room for it and shows none of it: a roof may contradict, not support"
SAME = "both sides are the same chip: what differs is not on its sheet"


def datasheet(claim: Claim) -> Level:
    """What the sheets say. A figure that is only a roof of what is claimed stands for equal fractions of the roofs."""
    found = unnamed(claim, joined([_level(condition) for condition in claim.conditions]))
    lines = [f"{shown.what}: {_shown(claim, shown)}" for shown in claim.shown]
    return replace(found, basis=(*found.basis, *lines, *([claim.note] if claim.note else [])))


def _level(claim: Claim) -> Level:
    quantity = claim.quantity
    if not quantity.sheet:
        reasons = [claim.not_testable] if claim.not_testable else []
        return Level(
            verdict=Word.NOT_TESTABLE if claim.not_testable else Word.NOT_DECIDED,
            basis=(*reasons, f"sheets say nothing of {quantity.title}"),
        )
    try:
        terms = [term(claim, side) for side in claim.sides]
    except NoFigureError as error:
        word = Word.NOT_TESTABLE if claim.not_testable else Word.NOT_DECIDED
        reasons = [claim.not_testable] if claim.not_testable else []
        return Level(verdict=word, basis=(*reasons, str(error)), missing=() if reasons else (str(error),))
    span, line, whole = _figure(claim, terms)
    quality = whole.grade + (f", watts assumed ({', '.join(whole.assumed)})" if whole.assumed else "")
    open_ = [*whole.open, *_not_judged(claim)]
    word = Word.NOT_DECIDED if open_ else judge(claim, span, roof=True)
    roofs = [_roofs(claim, whole)] if quantity.achieved and claim.denominator else []
    if roofs and word == Word.CONTRADICTED and ratio_of(claim) <= TWICE * whole.hi:
        word = Word.NOT_DECIDED
    if quantity.achieved and word == Word.SUPPORTED:
        word, open_ = Word.NOT_DECIDED, [*open_, ROOM]
    return Level(
        verdict=word, found=span, basis=(line, *roofs, *open_, *whole.notes), quality=quality,
        missing=whole.wants if word == Word.NOT_DECIDED else (),
    )  # fmt: skip


def _figure(claim: Claim, terms: list[Term]) -> tuple[Span, str, Term]:
    """The figure in the form of the claim, the arithmetic, and all that is in it."""
    if len(terms) == 1:
        one = claim.quantity.units[claim.unit]
        found = terms[0]
        span = Span(value=found.value / one, lo=found.lo / one, hi=found.hi / one)
        return span, f"{found.text} = {_number(span.value)} {claim.unit}", found
    ratio = over(*(terms if claim.quantity.better > 0 else terms[::-1]))
    span = Span(value=in_form(claim, ratio.value), lo=in_form(claim, ratio.lo), hi=in_form(claim, ratio.hi))
    return span, f"{ratio.text} = {_said(claim, span)}", ratio


def _said(claim: Claim, span: Span) -> str:
    """``1.38 (0.97 to 1.61)``; savings in percent."""
    percent = claim.form == "saving"
    known = [one for one in (span.value, span.lo, span.hi) if one is not None]
    value, *ends = [f"{100 * one:.3g} % less" if percent else _number(one) for one in known]
    return value if span.lo == span.hi else f"{value} ({' to '.join(ends)})"


def _number(value: float) -> str:
    return f"{value:,.1f}" if value >= 100 else f"{value:.2f}"


def _roofs(claim: Claim, ratio: Term) -> str:
    """What the ratio of roofs leaves to how well each is used."""
    a, b = (side.title for side in claim.sides)
    share = ratio_of(claim) / ratio.value
    even = f"; they tie at {1 / ratio.value:.2f} times" if claim.quantity.better < 0 else ""
    return (
        f"roofs, so at equal fractions of them: {claim.said} takes {share:.2f} times the fraction on {a} of that on {b}"
        f"{even}"
    )


def _not_judged(claim: Claim) -> list[str]:
    """Why a figure that is known does not judge the claim."""
    sides = [side for side in claim.sides if side.of]
    if claim.disputed:
        return [claim.disputed]
    if claim.scope != "chip" and any(side.system is None for side in sides):
        return [OF_CHIPS.format(a_scope(claim.scope))]
    if len(sides) == 2 and sides[0].of == sides[1].of and sides[0].format == sides[1].format:
        return [SAME]
    return []


def _shown(claim: Claim, shown: Shown) -> str:
    changed = claim.with_(shown)
    if not changed.quantity.sheet:
        return f"sheets say nothing of {changed.quantity.title}"
    try:
        terms = [term(changed, side) for side in changed.sides]
    except NoFigureError as error:
        return str(error)
    return _figure(changed, terms)[1]
