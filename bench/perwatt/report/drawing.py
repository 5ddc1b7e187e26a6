"""Curves and points with letters on a grid of characters, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDTH, HEIGHT = 64, 16
LINES = (" ", "-", ".")  # an empty cell, and marks of curves, which points go over
SEVERAL = "*"


class Drawing:
    """A plot of ``WIDTH`` x ``HEIGHT`` characters.

    Args:
        xs: ends of the horizontal axis, above 0.
        ys: ends of the vertical one.
    """

    def __init__(self, xs: tuple[float, float], ys: tuple[float, float]) -> None:
        self._x, self._y = (tuple(map(math.log10, ends)) for ends in (xs, ys))
        self._cells = [[" "] * WIDTH for _ in range(HEIGHT)]

    def abscissae(self) -> list[float]:
        """A value of the horizontal axis for each column."""
        lo, hi = self._x
        return [10 ** (lo + (hi - lo) * at / (WIDTH - 1)) for at in range(WIDTH)]

    def curve(self, ys: Sequence[float | None], mark: str) -> None:
        """A value for each column; None leaves a gap. What is drawn already stays."""
        for column, y in enumerate(ys):
            line = None if y is None else self._line(y)
            if line is not None and self._cells[line][column] == " ":
                self._cells[line][column] = mark

    def point(self, x: float, y: float, mark: str) -> None:
        """One character over whatever is there; ``*`` where points meet."""
        lo, hi = self._x
        column, line = round((math.log10(x) - lo) / (hi - lo) * (WIDTH - 1)), self._line(y)
        if line is not None and 0 <= column < WIDTH:
            taken = self._cells[line][column]
            self._cells[line][column] = SEVERAL if taken not in (*LINES, mark) else mark

    def _line(self, y: float) -> int | None:
        lo, hi = self._y
        line = HEIGHT - 1 - round((math.log10(y) - lo) / (hi - lo) * (HEIGHT - 1))
        return line if 0 <= line < HEIGHT else None

    def lines(self, x_name: str, y_name: str) -> list[str]:
        """The plot with its axes."""
        top, bottom = (f"{10**end:.3g}" for end in reversed(self._y))
        left, right = (f"{10**end:.3g}" for end in self._x)
        edge = max(len(top), len(bottom))
        heads = [top, *[""] * (HEIGHT - 2), bottom]
        body = [f"{head:>{edge}} |{''.join(cells)}".rstrip() for head, cells in zip(heads, self._cells, strict=True)]
        foot = f"{left}{x_name:^{WIDTH - len(left) - len(right)}}{right}"
        return [f"{'':{edge}}  {y_name}", *body, f"{'':{edge}} +{'-' * WIDTH}", f"{'':{edge}}  {foot}"]
