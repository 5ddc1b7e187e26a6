"""Where what is pinned on the sides of a comparison differs: rounding, auto-cast, accumulation, the 8-bit format.

None of it forbids a comparison, as each row passed the accuracy gate; but a reader has to know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perwatt.analysis.groups import Column

COLUMN = "numerics"
UNPINNED = "not stated"


def notes(columns: Sequence[Column]) -> Iterator[str]:
    """One note for each pin that two columns have differently; what no row of a column states is not compared."""
    known = {column.label: pins for column in columns if (pins := _pins(column))}
    for name in sorted({name for pins in known.values() for name in pins}):
        values = {label: pins.get(name, UNPINNED) for label, pins in known.items()}
        if len(set(values.values())) > 1:
            yield f"{name} differs: " + ", ".join(f"{value} on {label}" for label, value in values.items())


def _pins(column: Column) -> dict[str, str]:
    """Pins by name; several values of rows of one column stand side by side."""
    found: dict[str, dict[str, None]] = {}
    for text in column.rows.codes(COLUMN)[1]:
        for pin in text.split():
            name, _, value = pin.partition("=")
            found.setdefault(name, {})[value] = None
    return {name: " and ".join(values) for name, values in found.items()}
