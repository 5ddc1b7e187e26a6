"""Tokens a second of a chip that has no row of the task: its sheet's peak times an MFU, and as good as that.

The MFU is what sources print for the chip at models that nobody can count; else what the chip's own published rows of
other models reach; else what other chips reach at the task, and where too few have it, what every chip reaches at any
model (the last two are ``borrowed``). Mixtures of experts say nothing of dense models, nor these of them.
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

ENDS = 2  # printed shares of peak from which they are a range


def rate(chip: Chip, width: int, rates: Rates, task: Task, declared: Assumption | None) -> Rate | None:
    """A rate by the sheet's peak and an MFU; None where the sheet or the rows do not have what it takes.

    A format in which the sheet has no more operations than in the next wider one is left out: it is no faster.
    """
    peak = next((found for kind in formats.PEAKS[width] if (found := chip.peak(kind))), None)
    wider = next((found for kind in formats.PEAKS.get(2 * width, ()) if (found := chip.peak(kind))), None)
    if peak is None or (wider is not None and peak.tflops <= wider.tflops):
        return None
    share = declared or next(filter(None, (by(chip, width, rates, task) for by in (_printed, _own, _borrowed))), None)
    if share is None:
        return None
    top = of_figure(f"{chip.name}-peak-{width}bit", peak, "FLOP/s")
    return Rate(
        width=width, precision=peak.formats[0] if width < 16 else formats.PEAKS[width][0],
        tokens=Product(1 / task.flops, (top, share)), evidence="modeled",
        of=f"peak by sheet x MFU {share.lo:.3g} to {share.hi:.3g}, {share.source}", chips=None, mfu=share.value,
    )  # fmt: skip


def _printed(chip: Chip, width: int, rates: Rates, task: Task) -> Assumption | None:
    """Shares of peak that sources print for the chip itself: two are the ends of a range."""
    shares = rates.printed.get((chip.name, width), ())
    if len(shares) < ENDS:
        return None
    rows = "; ".join(f"{one.value:.0%} of {one.of}" for one in shares)
    return _share(chip, width, task, [one.value for one in shares], "published", f"as printed: {rows}")


def _own(chip: Chip, width: int, rates: Rates, task: Task) -> Assumption | None:
    """What the chip itself reaches at other models."""
    shares = rates.reached.get(width, {}).get(chip.name, ())
    if len(shares) < FEW:
        return None
    return _share(chip, width, task, shares, "published", f"as {len(shares)} rows of other {_kind(task)} on it have it")


def _borrowed(chip: Chip, width: int, rates: Rates, task: Task) -> Assumption | None:
    """What other chips reach of their peaks in a format of that width: at the task, else at any that rows are of."""
    others = {name: rate.mfu for (name, bits), rate in rates.best.items() if bits == width and rate.mfu}
    if len(others) >= FEW:
        return _share(chip, width, task, tuple(others.values()), "borrowed", f"as {', '.join(sorted(others))} have it")
    by_chip = rates.reached.get(width, {})
    every = [share for shares in by_chip.values() for share in shares]
    if len(every) < FEW:
        return None
    on = ", ".join(sorted(by_chip))
    return _share(chip, width, task, every, "borrowed", f"as {len(every)} rows of {_kind(task)} on {on} have it")


def _kind(task: Task) -> str:
    return "mixtures of experts" if task.experts else "dense models"


def _share(
    chip: Chip, width: int, task: Task, shares: Sequence[float], evidence: Evidence, source: str
) -> Assumption:  # fmt: skip
    step = f"a training step of the task in {width} bits on {chip.name}"
    return Assumption(
        name=f"{chip.name}-mfu-{width}bit", value=median(shares), lo=min(shares), hi=max(shares), unit="share",
        evidence=evidence, source=source, settle=measuring(chip.name, step, task.state),
    )  # fmt: skip
