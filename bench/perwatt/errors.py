"""Mistakes of a user, said in one line: where, what was found, what was expected, the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MANY = 12  # longer lists of choices are cut in the message


class InputError(ValueError):
    """Wrong input. Commands print it as one line and exit with code 2.

    Args:
        message: what is wrong, as a sentence part without a full stop.
        file: path of the file it stands in, if any.
        line: 1-based line in that file.
        field: dotted path of the field (``cases[2].params.heads``).
    """

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, field: str | None = None
    ) -> None:
        self.message, self.file, self.line, self.field = message, file, line, field
        super().__init__(str(self))

    def at(self, *, file: str | None = None, line: int | None = None, field: str | None = None) -> InputError:
        """The same mistake with its place filled in where it was still unknown."""
        return InputError(self.message, file=self.file or file, line=self.line or line, field=self.field or field)

    def __str__(self) -> str:
        place = self.file or ""
        if self.line is not None:
            place += f":{self.line}" if place else f"line {self.line}"
        text = " ".join(str(self.message).split())  # one line, whatever was quoted in it
        return ": ".join(part for part in (place, self.field, text) if part)


class MissingHardware(RuntimeError):
    """Nothing here can be measured (no such device, no driver). Commands exit with code 3."""


def expected(found: object, choices: Iterable[str], what: str = "value") -> str:
    """``found 'x', expected one of a, b (did you mean 'y'?)`` for an :class:`InputError`."""
    names = sorted(choices)
    shown = ", ".join(names[:MANY]) + (f", ... ({len(names)} in all)" if len(names) > MANY else "")
    text = f"found {shorten(found)}, expected {what if not names else shown if len(names) == 1 else 'one of ' + shown}"
    near = difflib.get_close_matches(str(found), names, n=1, cutoff=0.6)
    return text + (f" (did you mean {near[0]!r}?)" if near else "")


def shorten(value: object, limit: int = 60) -> str:
    """``repr`` of a value from outside, cut so that a message stays one readable line."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
