"""What ``perwatt doctor`` found: one thing that was looked at, how it is, and what would mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

State = Literal["problem", "warning", "ok", "absent"]
STATES: tuple[State, ...] = get_args(State)
"""The gravest first: has to be mended before a number counts, makes numbers worse, fine, not here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: the thing, in a few words: ``driver``, ``memory errors``.
        state: how it is.
        found: what was found, for people.
        remedy: what would mend it, as a command where there is one; empty where nothing has to be mended.
    """

    what: str
    state: State
    found: str
    remedy: str = ""


def looked(what: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a look found. One that fails is a finding itself: it must not hide the others."""
    try:
        return list(look())
    except Exception as error:  # drivers, sysfs and plug-ins of others raise whatever they like
        return [Finding(what=what, state="problem", found=f"could not be looked at: {said(error)}",
                        remedy="report it to whom it belongs")]  # fmt: skip


def said(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def split(text: str) -> tuple[str, str]:
    """A reason that ends with its remedy (``no driver: install it``), as the two."""
    found, _, remedy = text.partition(": ")
    return found, remedy
