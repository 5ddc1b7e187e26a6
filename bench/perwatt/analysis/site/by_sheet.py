"""Tokens a second of a chip that has no row of the task: its sheet's peak times an MFU, and as good as that.

The MFU is what sources print for the chip, where they do so three times; else what other chips reach at the task, or at
any task where fewer than three have it (``borrowed``).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from perwatt.analysis.levels import FEW
from perwatt.analysis.site import formats
from perwatt.analysis.site.assumption import Assumption, Evidence, Product, of_figure
from perwatt.analysis.site.money import measuring
from perwatt.analysis.site.rates import Rate, Rates, Task
from perwatt.hardware.chips import Chip


def rate(chip: Chip, width: int, rates: Rates, task: Task, declared: Assumption | None) -> Rate | None:
    """A rate by the sheet's peak and an MFU; None where the sheet or the rows do not have what it takes.

    A format in which the sheet has no more operations than in the next wider one is left out: it is no faster.
    """
    peak = next((found for kind in formats.PEAKS[width] if (found := chip.peak(kind))), None)
    wider = next((found for kind in formats.PEAKS.get(2 * width, ()) if (found := chip.peak(kind))), None)
    if peak is None or (wider is not None and peak.tflops <= wider.tflops):
        return None
    share = declared or _printed(chip, width, rates) or _borrowed(chip, width, rates)
    if share is None:
        return None
    top = of_figure(f"{chip.name}-peak-{width}bit", peak, "FLOP/s")
    return Rate(
        width=width, precision=peak.formats[0] if width < 16 else formats.PEAKS[width][0],
        tokens=Product(1 / task.flops, (top, share)), evidence="modeled",
        of=f"peak by sheet x MFU {share.lo:.3g} to {share.hi:.3g}, {share.source}", chips=None, mfu=share.value,
    )  # fmt: skip


def _printed(chip: Chip, width: int, rates: Rates) -> Assumption | None:
    """Shares of peak that sources print for the chip itself, at models that they do not name."""
    shares = rates.printed.get((chip.name, width), ())
    if len(shares) < FEW:
        return None
    return _share(chip, width, shares, "published", f"printed for {chip.name} at models not named")


def _borrowed(chip: Chip, width: int, rates: Rates) -> Assumption | None:
    """What other chips reach of their peaks in a format of that width: at the task, else at any that rows are of."""
    others = {name: rate.mfu for (name, bits), rate in rates.best.items() if bits == width and rate.mfu}
    if len(others) >= FEW:
        return _share(chip, width, tuple(others.values()), "borrowed", f"as {', '.join(sorted(others))} have it")
    every = rates.reached.get(width, ())
    if len(every) < FEW:
        return None
    return _share(chip, width, every, "borrowed", f"as {len(every)} rows of any model and chip have it")


def _share(chip: Chip, width: int, shares: Sequence[float], evidence: Evidence, source: str) -> Assumption:
    step = f"a training step of the task in {width} bits on {chip.name}"
    return Assumption(
        name=f"{chip.name}-mfu-{width}bit", value=median(shares), lo=min(shares), hi=max(shares), unit="share",
        evidence=evidence, source=source, settle=measuring(chip.name, step),
    )  # fmt: skip
