from __future__ import annotations

import math

import pytest

from perwatt.report import format as fmt


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (0, "0"), (12.3456, "12.35"), (1234.5, "1,234"), (9999.6, "10,000"), (1234567, "1,234,567"),
        (0.0123456, "0.01235"), (1, "1.000"), (-12.3456, "-12.35"), (1e-15, "0.000000000000"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_number(value, text):
    assert fmt.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (1.5, "1.500 s"), (0.0123, "12.30 ms"), (4.56e-6, "4.560 us"), (7e-9, "7.000 ns"), (120, "120.0 s")],
)
def test_seconds(value, text):
    assert fmt.seconds(value) == text


def test_interval_is_the_far_end():
    assert fmt.interval(1.0, 0.99, 1.03) == "±3%"
    assert fmt.interval(1.0, 0.9988, 1.0) == "±0.12%"
    assert fmt.interval(-1.0, -1.1, -0.9) == "±10%"
    assert fmt.interval(1.0, 0.0, 2.5) == ">100%"


@pytest.mark.parametrize("values", [(None, 1, 1), (1, None, 1), (1, 1, None), (0, -1, 1), (1, 0, math.inf)])
def test_no_interval(values):
    assert fmt.interval(*values) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(0.4, "0 s"), (119, "119 s"), (150, "2 min"), (7199, "120 min"), (7500, "2 h 05 min")]
)
def test_span(value, text):
    assert fmt.span(value) == text


def test_control_characters_are_shown_not_obeyed():
    assert fmt.plain("a\x1b[31mb\n c") == "a\\x1b[31mb c"
