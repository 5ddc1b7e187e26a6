"""Figures, one file each: a module's constant ``FIGURE`` says its name and how it is drawn.

Figures are the same every time: settings of matplotlib that a user has are left alone, and files hold no dates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perwatt import plugins
from perwatt.errors import InputError, expected
from perwatt.report.format import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

FORMATS = ("png", "svg", "pdf")
STYLE: Any = {"svg.hashsalt": "perwatt", "font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False}
METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None, "Producer": None},
}  # fmt: skip

MARKED: dict[str, Any] = {
    "measured": {"marker": "o", "ls": "none", "ms": 6}, "published": {"marker": "D", "ls": "none", "ms": 5.5},
    "modeled": {"marker": "o", "ls": "none", "ms": 6, "mfc": "white"},
}  # fmt: skip
"""How a point looks by its evidence: filled where it was measured, hollow where it was only worked out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One kind of figure.

    Attributes:
        name: as ``perwatt plot`` takes it.
        summary: one line of what it shows.
        draw: draws what the paths hold onto a canvas; ``chosen`` is a part of the name of what is meant, or empty.
    """

    name: str
    summary: str
    draw: Callable[[Canvas, Sequence[Path], str], None]


def figures() -> dict[str, Figure]:
    """Every figure by name: built-in ones, then those of entry point ``perwatt.figures``."""
    return plugins.find("perwatt.report.figures", "FIGURE", "perwatt.figures")


def save(name: str, paths: Sequence[Path], chosen: str, out: Path) -> None:
    """Draw a figure into a file, whose ending is its format.

    Raises:
        InputError: there is no such figure or format, the paths do not hold what it shows, or it cannot be written.
    """
    known = figures()
    if name not in known:
        raise InputError(expected(name, known), field="NAME")
    write(out, lambda canvas: known[name].draw(canvas, paths, chosen), "-o")


def format_of(out: Path, option: str = "--figure") -> str:
    """The format of a file by its ending.

    Raises:
        InputError: it is none of :data:`FORMATS`.
    """
    kind = out.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise InputError(expected(kind, FORMATS, "ending"), field=option)
    return kind


def write(out: Path, draw: Callable[[Canvas], None], option: str = "--figure") -> None:
    """Draw into a file, whose ending is its format.

    Raises:
        InputError: there is no such format (``option`` named it), or the file cannot be written.
    """
    kind = format_of(out, option)
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(8.0, 4.0), dpi=150, layout="constrained")
        draw(canvas)
        try:
            canvas.savefig(out, format=kind, metadata=METADATA[kind])
        except OSError as error:
            raise InputError(f"cannot be written ({error.strerror})", file=str(out)) from error


def literal(text: str) -> str:
    """Text of a file as it stands: matplotlib takes what is between dollars for mathematics."""
    return plain(text).replace("$", r"\$")
