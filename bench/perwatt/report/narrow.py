"""Tables on narrow screens: widths that leave words whole, and rows as paragraphs where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

WORD = 16  # letters of a word that is never broken; addresses and paths are longer
INDENT = 4


def fitted(
    columns: Sequence[Sequence[str]], room: int, gap: int, word: int = WORD, *, names: bool = True
) -> list[int] | None:
    """A width for each column that together, with their gaps, fill at most ``room``; None if words would be broken.

    What room is left goes to the columns that want least first, so that only long texts are folded.

    Args:
        columns: their cells, the head among them.
        room: columns of the screen.
        gap: columns of the screen beside each.
        word: letters up to which a word is not broken.
        names: whether the first column holds names, which are never folded.
    """
    from rich.cells import cell_len

    widest = [max(map(cell_len, column)) for column in columns]
    longest = [max((cell_len(each) for cell in column for each in cell.split()), default=0) for column in columns]
    widths = [min(letters, word) for letters in longest]
    if names:
        widths[0] = widest[0]
    spare = room - sum(widths) - gap * len(widths)
    if spare < 0:
        return None
    wanted = [most - width for most, width in zip(widest, widths, strict=True)]
    order = sorted(range(len(widths)), key=wanted.__getitem__)
    for left, index in zip(range(len(order), 0, -1), order, strict=True):
        given = min(wanted[index], spare // left)
        widths[index] += given
        spare -= given
    return widths


def paragraphs(
    title: str, head: Sequence[str], rows: Iterable[Sequence[str]], styles: Mapping[str, str] | None = None
) -> Group:
    """Rows under a title: the first cell of each, and below it what the others say; ``styles`` are of whole cells."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    shown: list[RenderableType] = [Text(title, "bold")]
    for name, *row in rows:
        parts = [(what, cell) for what, cell in zip(head[1:], row, strict=True) if cell]
        said = [Text.assemble(f"{what} ", (cell, (styles or {}).get(cell, ""))) for what, cell in parts]
        shown += [Text(name, overflow="fold"), Padding(Text("; ", overflow="fold").join(said), (0, 0, 0, INDENT))]
    return Group(*shown)
