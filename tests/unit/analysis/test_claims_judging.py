"""Words on a figure: quantifiers, printed digits, intervals, savings."""

from __future__ import annotations

from typing import Any

import pytest

from perwatt.analysis.claims.claim import Bar
from perwatt.analysis.claims.judging import Span, Word, alike, in_form, judge, ratio_of, together


def bar(value: float, digits: int = 2, quantifier: Any = "about", **changes: Any) -> Bar:
    return Bar(metric="peak", value=value, printed_digits=digits, quantifier=quantifier, **changes)


def word(one: Bar, value: float, lo: float | None = None, hi: float | None = None, roof: bool = True) -> str:
    ends = (value, value) if lo is None else (lo, hi)
    return judge(one, Span(value=value, lo=ends[0], hi=ends[1]), roof=roof).value


@pytest.mark.parametrize(
    ("one", "value", "verdict"),
    [
        (bar(4.4), 4.36, "supported"),
        (bar(4.4), 4.35, "supported"),
        (bar(4.4), 4.34, "contradicted"),
        (bar(3.9), 3.80, "contradicted"),
        (bar(2.0, 1), 1.94, "supported"),
        (bar(1.7), 1.69, "supported"),
        (bar(362.0, 3), 362.4, "supported"),
        (bar(362.0, 3), 362.6, "contradicted"),
        (bar(20700.0, 3), 20736.0, "supported"),
        (bar(1.4, to=5.0), 3.0, "supported"),
        (bar(1.4, to=5.0), 5.2, "contradicted"),
        (bar(4.4, quantifier="up_to"), 4.36, "supported"),
        (bar(4.4, quantifier="up_to"), 9.0, "supported"),
        (bar(4.4, quantifier="up_to"), 4.3, "contradicted"),
        (bar(4.0, 1, "at_least"), 4.0, "supported"),
        (bar(4.0, 1, "at_least"), 3.99, "contradicted"),
    ],
)
def test_figures_without_an_interval(one: Bar, value: float, verdict: str):
    assert word(one, value) == verdict


@pytest.mark.parametrize(
    ("quantifier", "lo", "hi", "verdict"),
    [
        ("about", 3.9, 4.1, "supported"),
        ("about", 3.0, 4.0, "not_decided"),
        ("about", 1.0, 2.0, "contradicted"),
        ("about", 5.0, 6.0, "contradicted"),
        ("at_least", 4.1, 5.0, "supported"),
        ("at_least", 3.9, 5.0, "not_decided"),
        ("at_least", 3.0, 3.9, "contradicted"),
        ("up_to", 4.0, 9.0, "supported"),
        ("up_to", 3.0, 9.0, "not_decided"),
        ("up_to", 1.0, 3.0, "contradicted"),
    ],
)
def test_the_whole_interval_counts(quantifier: str, lo: float, hi: float, verdict: str):
    assert word(bar(4.0, 1, quantifier), (lo + hi) / 2, lo, hi) == verdict


def test_up_to_is_contradicted_by_a_roof_alone():
    one = bar(4.0, quantifier="up_to")
    assert (word(one, 2.0, roof=True), word(one, 2.0, roof=False)) == ("contradicted", "not_decided")


def test_an_open_interval_decides_nothing():
    assert judge(bar(1.0), Span(value=1.0, lo=None, hi=None), roof=False) == "not_decided"
    assert judge(bar(1.0), Span(value=1.0, lo=1.0, hi=None), roof=False) == "not_decided"


def test_savings_are_shares_of_the_cost():
    one = bar(0.3, to=0.4, form="saving")
    assert in_form(one, 2.0) == 0.5
    assert ratio_of(one) == pytest.approx(1 / 0.7)
    assert word(one, in_form(one, 1 / 0.64)) == "supported"
    assert one.said == "about 30 to 40 % less"


def test_several_words_together():
    yes, no, open_, never = Word.SUPPORTED, Word.CONTRADICTED, Word.NOT_DECIDED, Word.NOT_TESTABLE
    assert [together(words) for words in ([yes, yes], [yes, no], [yes, open_], [open_, never], [never, no])] == [
        yes, no, open_, never, no,
    ]  # fmt: skip
    assert [alike(words) for words in ([yes, yes], [no, no], [yes, no])] == [yes, no, open_]
