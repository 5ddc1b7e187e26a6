"""Printed MFU and rates against the same figure worked out anew, in the convention of their source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from perwatt.results.published import rows
from perwatt.results.published.conventions import CONVENTIONS, GEMM, RATE, UNKNOWN
from perwatt.results.published.entry import Entry
from perwatt.results.published.tables import Table

TOLERANCE = 0.01  # relative; the digits that were rounded away come on top


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One printed figure and its like.

    Attributes:
        unit: ``% MFU`` or ``TFLOP/s``.
        convention: the source's; our own count stands in where that is unknown.
        printed: as the source prints it.
        computed: from the other figures that it prints, with our shapes and peaks.
    """

    unit: str
    convention: str
    printed: float
    computed: float

    @property
    def residual(self) -> float:
        """Computed over printed, less one."""
        return self.computed / self.printed - 1

    @property
    def agrees(self) -> bool:
        """Whether the computed figure is within 1 % of some value that would be printed like this."""
        half = half_digit(self.printed)
        return (self.printed - half) * (1 - TOLERANCE) <= self.computed <= (self.printed + half) * (1 + TOLERANCE)


def half_digit(printed: float) -> float:
    """Half of the last digit of a printed figure: 0.05 of 46.4, 0.5 of 19."""
    _, _, decimals = f"{printed:.12g}".partition(".")
    return 0.5 * 10.0 ** -len(decimals)


def checks(table: Table, entry: Entry) -> Iterator[Check]:
    """Every printed figure of a row that others of the same row imply; the MFU first."""
    convention = entry.convention or UNKNOWN
    rate = tflops(table, entry, convention)
    if rate is None:
        return
    whole = _whole(entry)
    if entry.printed.mfu is not None and whole is not None:
        yield Check(unit="% MFU", convention=convention, printed=entry.printed.mfu, computed=100 * rate / whole)
    if entry.printed.rate is not None and convention != RATE:
        yield Check(unit="TFLOP/s", convention=convention, printed=entry.printed.rate, computed=rate)


def worked_out(table: Table, entry: Entry) -> Iterator[Check]:
    """MFU that others worked out from what the source prints, each in the convention that they name."""
    whole = _whole(entry)
    for convention, percent in entry.worked_out.items():
        rate = tflops(table, entry, convention)
        if rate is not None and whole is not None:
            yield Check(unit="% MFU", convention=convention, printed=percent, computed=100 * rate / whole)


def tflops(table: Table, entry: Entry, convention: str) -> float | None:
    """Rate of a chip or device by a convention; None where the row does not say enough."""
    shape, tokens, per_token = table.shape(entry), entry.tokens_per_s_per_chip, CONVENTIONS[convention].per_token
    if convention in (RATE, GEMM, UNKNOWN):
        if convention == RATE and entry.printed.rate is not None:
            return entry.printed.rate
        return rows.own_tflops(entry, shape)
    if shape is None or entry.seq is None or tokens is None or per_token is None:
        return None
    return per_token(shape, entry.seq) * tokens / 1e12


def _whole(entry: Entry) -> float | None:
    return entry.printed_peak or (entry.whole.tflops if entry.whole else None)
