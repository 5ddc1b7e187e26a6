"""Tables on narrow screens."""

from __future__ import annotations

from perwatt.cli._output import GAP
from perwatt.report.narrow import WORD, fitted

NAMES = ["name", "trainium1", "trainium2"]
TEXT = ["source", "a long text of many words", "https://example.org/an/address/that/is/long"]


def test_all_is_shown_in_full_where_there_is_room():
    assert fitted([NAMES, TEXT], 200, GAP) == [9, len(TEXT[2])]


def test_long_cells_are_folded_and_names_are_not():
    widths = fitted([NAMES, TEXT], 40, GAP)
    assert widths == [9, 40 - 9 - 2 * GAP]


def test_of_two_texts_the_shorter_is_left_whole():
    widths = fitted([NAMES, TEXT, ["kind", "of two words", ""]], 60, GAP)
    assert widths is not None
    assert (widths[2], sum(widths) + 3 * GAP) == (len("of two words"), 60)


def test_no_width_where_words_would_be_cut():
    least = 9 + WORD + 2 * GAP
    assert fitted([NAMES, TEXT], least, GAP) == [9, WORD]
    assert fitted([NAMES, TEXT], least - 1, GAP) is None
