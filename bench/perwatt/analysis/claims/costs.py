"""What an hour of the machine costs that would produce missing rows."""

from __future__ import annotations

from collections.abc import Iterator

from perwatt.analysis.claims.claim import Claim, Side
from perwatt.hardware import prices, systems
from perwatt.hardware.prices import Price


def an_hour(claim: Claim, side: Side) -> str:
    """The lowest of the last prices of a machine that has what a side is of: of the system, or of any with the chip."""
    found = list(_last(_machines(claim, side)))
    if not found:
        of = side.of if claim.scope != "chip" and side.system else f"a machine with {side.chip}"
        return f"no price is known of {of}"
    price = min(found, key=lambda one: one.value)
    return f"from {price.value:g} USD/h ({price.instance}, {price.purchase}, {price.dated})"


def _machines(claim: Claim, side: Side) -> frozenset[str]:
    """Names of systems that would do."""
    if claim.scope != "chip" and side.system:
        return frozenset({side.system.name})
    return frozenset(name for name, system in systems.all_systems().items() if system.chip == side.chip)


def _last(machines: frozenset[str]) -> Iterator[Price]:
    """The last price of each machine and kind of purchase."""
    kinds = dict.fromkeys((one.instance, one.purchase) for one in prices.read().prices if one.instance in machines)
    return (prices.history(*kind)[-1] for kind in kinds)
