"""How much of a function of several steps its gate looks at in one go, and what memory that takes.

No torch is needed here: cases are refused for their memory before anything is started.
"""

from __future__ import annotations

BLOCK = 2**22
"""Numbers that a block may have at once: 32 MiB in float64. Of functions with weights it is as many as those have."""
WIDE = 8.0  # bytes of a number in float64
ROW_NORMS = 2  # norms kept of a row until all are judged: of the truth and of the error
ALIKE = 5  # wide copies of what all blocks share: itself, its gradient in a block, their sum; the last two narrow, too


def step(extent: int, at_once: float, shared: int) -> int:
    """Rows of a block.

    Args:
        extent: rows there are.
        at_once: numbers that the function written out and its gradients have at once of each row.
        shared: elements of the operands that are not cut in blocks.
    """
    return min(extent, max(1, int(max(BLOCK, shared) / max(at_once, 1.0))))


def working_bytes(extent: int, at_once: float, shared: int, rows: int, gradients: bool) -> float:
    """Bytes that the gate holds beside operands, result and gradients.

    Args:
        extent: as of :func:`step`, like the next two.
        at_once: the same.
        shared: the same.
        rows: of all tensors that are judged row by row.
        gradients: whether there are any.
    """
    block = step(extent, at_once, shared) * at_once
    return WIDE * (block + shared * (ALIKE if gradients else 1) + ROW_NORMS * rows)
