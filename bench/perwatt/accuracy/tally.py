"""The error of one tensor against its truth, taken block by block: of the whole by its norm, and of every row."""

from __future__ import annotations

import torch
from torch import Tensor

from perwatt.accuracy.products import OUTLIER, exact
from perwatt.workloads.base import Accuracy

SMALL_ROW = 0.1  # rows shorter than this share of the usual are judged as if they were as long


class Tally:
    """Norms of the truth's rows and of their errors, as blocks of a tensor come in.

    Args:
        along: dimension that the blocks follow each other in.
    """

    def __init__(self, along: int = 0) -> None:
        self._along = along
        self._sizes: list[Tensor] = []
        self._errors: list[Tensor] = []

    def add(self, actual: Tensor, truth: Tensor) -> None:
        """The next block, or the whole."""
        truth = exact(truth)
        difference = actual.detach().to(truth.device) - truth  # narrow formats are widened element by element
        for norms, block in ((self._sizes, truth), (self._errors, difference)):
            found = torch.linalg.vector_norm(block, dim=-1 if block.dim() > 1 else None)
            if norms and self._along >= found.dim():  # blocks cut through rows
                norms[0] = norms[0].hypot(found)
            else:
                norms.append(found)

    @property
    def error(self) -> float:
        """Norm of all errors over that of the truth; the error itself where the truth is zero."""
        size, error = (float(self._joined(norms).norm()) for norms in (self._sizes, self._errors))
        return error / size if size else error

    def judged(self, bound: float, name: str) -> Accuracy:
        """The whole by its norm, and each row against ``OUTLIER`` times the bound."""
        total = self.error
        if not total <= bound:
            return Accuracy(rel_err=total, bound=bound, detail=f"{name} differs from the function written out")
        sizes, errors = self._joined(self._sizes), self._joined(self._errors)
        usual = float(sizes.square().mean().sqrt())
        by_row = errors / sizes.clamp_min(max(SMALL_ROW * usual, 1e-300))
        worst = float(by_row.max())
        if len(by_row) > 1 and not worst <= OUTLIER * bound:
            return Accuracy(rel_err=worst, bound=OUTLIER * bound, detail=f"{name}: row {int(by_row.argmax())} differs")
        return Accuracy(rel_err=total, bound=bound)

    def _joined(self, norms: list[Tensor]) -> Tensor:
        return (norms[0] if len(norms) == 1 else torch.cat(norms, dim=self._along)).flatten()
