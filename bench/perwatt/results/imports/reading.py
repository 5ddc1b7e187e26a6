"""A file of whatever known format into rows."""

from __future__ import annotations

from perwatt.errors import InputError, expected
from perwatt.plugins import find
from perwatt.results.imports.base import Format, Given, Imported, head


def formats() -> dict[str, Format]:
    """Formats by name."""
    return find("perwatt.results.imports", "FORMAT", "perwatt.importers")


def read(given: Given, name: str | None = None) -> tuple[str, Imported]:
    """The format of a file, and its rows.

    Args:
        given: the file.
        name: of its format; told by its content if None.

    Raises:
        InputError: it is of no known format, or damaged.
    """
    known = formats()
    if name is not None and name not in known:
        raise InputError(expected(name, known), field="--from")
    beginning = head(given.path)
    chosen = known[name] if name else next((one for one in known.values() if one.detects(beginning)), None)
    if chosen is None:
        names = ", ".join(sorted(known))
        raise InputError(
            f"found none of the formats {names}; --from NAME says which it is", file=given.file, line=1
        )  # fmt: skip
    return chosen.name, chosen.read(given)
