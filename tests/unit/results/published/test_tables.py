"""Tables of printed figures, and what is said of damaged ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perwatt.errors import InputError
from perwatt.results.published import tables

Write = Callable[..., Path]


def test_a_table_is_read(write: Write):
    table = tables.read(write())
    assert (table.name, len(table.rows)) == ("small", 2)
    assert table.shape(table.rows[0]).layers == 2
    assert table.shape(table.rows[1]) is None
    assert table.uncounted == {"odd": "nobody knows it"}
    assert str(table.rows[0].printed) == "20000 token/s per chip; 178.4 TFLOP/s per chip"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (", date: 2025-06", "", 3, "sources.paper.date: found nothing, expected a value"),
        ("date: 2025-06", "date: June 2025", 3, "sources.paper.date: found 'June 2025'"),
        (", grade: B", "", 3, "sources.paper.grade: found nothing, expected a value"),
        ("grade: B", "grade: F", 3, "sources.paper.grade: found 'F', expected one of A, B, C"),
        ('where: "A paper, table 2", ', "", 3, "sources.paper.where: found nothing, expected a value"),
        ("source: paper", "source: papers", 9, "rows[0].source: found 'papers', expected paper (did you mean"),
        ("source: paper, ", "", 9, "rows[0].source: found nothing, expected a value"),
        ("model: small", "model: smal", 9, "(did you mean 'small'?)"),
        ("model: small", "model: llama-3-8c", 9, "(did you mean 'llama-3-8b'?)"),
        ("like: llama-3-8b", "like: llama3-8b", 5, "models.small.like: found 'llama3-8b', expected one of "),
        ("chip: h100-sxm", "chip: h100-sxn", 9, "rows[0].chip: found 'h100-sxn', expected one of "),
        ("chip: h100-sxm", "chip: h100-sxn", 9, "(did you mean 'h100-sxm'?)"),
        ("chip: h100-sxm, ", "", 9, "rows[0]: found neither chip nor chip_called, expected one"),
        ("precision: bf16", "precision: nvfp4", 9, "rows[0].precision: the sheet 'h100-sxm' has no peak for 'nvfp4'"),
        ("convention: 6n,", "convention: 7n,", 9, "rows[0].convention: found '7n', expected one of "),
        ("convention: 6n, ", "", 9, "rows[0]: found an MFU or a rate, expected a convention with it"),
        ("convention: unknown", "convention: unknown, differs: odd", 10, "rows[1]: found differs, expected with it"),
        ("printed: {mfu: 40}", "printed: {}", 10, "rows[1]: found no printed figure, expected one"),
        ("mfu: 40", "mfu: 0.4e3", 10, "rows[1].printed.mfu: found 400, expected at most 100"),
        ("mfu: 40", 'mfu: "40"', 10, "rows[1].printed.mfu: found '40', "),
        ("mfu: 40", "mfu: 0", 10, "rows[1].printed.mfu: found 0, expected more than 0"),
        ("mfu: 40", "mfo: 40", 10, "rows[1].printed.mfo: found 'mfo', expected one of "),
        ("model: odd, ", "", 10, "rows[1]: found neither model nor what, expected one"),
        ("seq: 1024", "sequence: 1024", 7, "defaults.sequence: found 'sequence', expected one of "),
        ("{uncounted: nobody knows it}", "{}", 6, "models.odd: found both or neither of shape and uncounted"),
        ("layers: 2", "layer: 2", 5, "models.small.shape: found 'layer', expected one of "),
        ("A paper, table 2", "A \\u001b[31m paper", 3, "sources.paper.where: found 'A \\x1b[31m paper', "),
        ("model: odd", "what: gemm, m: 4, n: 4", 10, "rows[1]: found one or two of m, n and k, expected all or none"),
        ("mfu: 40}", "mfu: 40}, worked_out: {5n: 30}", 10, "rows[1].worked_out.5n: found '5n', expected one of "),
        ("about: Two rows.\n", "", 1, "found no 'about', expected one"),
        ("rows:\n", "rowz:\n", 8, "rowz: found 'rowz', expected one of "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(write: Write, old: str, new: str, line: int, message: str):
    path = write((old, new))
    with pytest.raises(InputError) as caught:
        tables.read(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
