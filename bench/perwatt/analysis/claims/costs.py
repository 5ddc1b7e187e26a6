"""What it costs at most to produce missing rows: hours by the limits of the suite, at the price of a machine."""

from __future__ import annotations

from collections.abc import Iterator

from perwatt.analysis.claims.claim import Claim, Side
from perwatt.hardware import prices, systems
from perwatt.hardware.prices import Price

HOUR_S = 3600.0


def at_most(claim: Claim, side: Side, seconds: float) -> str:
    """What so many seconds of a machine cost that has what a side is of: of the system, or of any with the chip.

    Args:
        claim: that the rows are for.
        side: that they are of.
        seconds: that they take where everything takes as long as its timeout lets it.
    """
    hours = seconds / HOUR_S
    told = f"at most {hours:.3g} h by the suite's timeouts"
    found = list(_last(_machines(claim, side)))
    if not found:
        of = side.of if claim.scope != "chip" and side.system else f"a machine with {side.chip}"
        return f"{told}; no price is known of {of}"
    price = min(found, key=lambda one: one.value)
    rate = f"{price.value:g} USD/h ({price.instance}, {price.purchase}, {price.dated}), the lowest known"
    return f"{told}, which is {hours * price.value:.2f} USD at {rate}"


def _machines(claim: Claim, side: Side) -> frozenset[str]:
    """Names of systems that would do."""
    if claim.scope != "chip" and side.system:
        return frozenset({side.system.name})
    return frozenset(name for name, system in systems.all_systems().items() if system.chip == side.chip)


def _last(machines: frozenset[str]) -> Iterator[Price]:
    """The last price of each machine and kind of purchase."""
    kinds = dict.fromkeys((one.instance, one.purchase) for one in prices.read().prices if one.instance in machines)
    return (prices.history(*kind)[-1] for kind in kinds)
