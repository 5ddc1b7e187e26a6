"""What forbids or marks the comparison of a figure: units of copies, evidence, sensors, prices, unknown maxima."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perwatt.analysis.groups import Column
from perwatt.analysis.metrics import Metric
from perwatt.analysis.result import Options

NO_EVIDENCE = "none"
NET = "energy_j_net"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """On what a figure of one side rests.

    Attributes:
        column: where it is.
        group: number of the group in it.
    """

    column: Column
    group: int

    def texts(self, metric: Metric, name: str) -> tuple[str, ...]:
        """Different texts of the rows that have the figure."""
        return self.column.texts(name, self.group, self.column.values(metric))

    def evidence(self, metric: Metric) -> str:
        """Where the figure comes from; several kinds joined."""
        name = "energy_evidence" if metric.kind == "energy" else "time_evidence"
        return "+".join(self.texts(metric, name)) or NO_EVIDENCE


def refusals(metric: Metric, grounds: Sequence[Ground], options: Options) -> Iterator[str]:
    """Why a figure of two groups may not be compared."""
    a, b = grounds
    if metric.per_copy:
        copies = [ground.column.number("replicas", ground.group) for ground in (a, b)]
        if copies[0] != copies[1]:
            yield f"replicas differ ({_whole(copies[0])} and {_whole(copies[1])}): only rates per chip may be compared"
    if metric.name == "mfu":
        yield from _differ("peak_basis", "peaks of different basis", metric, a, b)
    if metric.name == NET:
        yield from _net(metric, a, b)
    if metric.kind == "energy":
        yield from _energy(metric, a, b, options)
    if metric.kind == "cost" and not options.mix_purchase:
        yield from _differ("purchase", "kinds of purchase differ", metric, a, b, "--mix-purchase", stated=True)
        yield from _differ("allocation", "allocations differ", metric, a, b, "--mix-purchase")
    if metric.kind == "percent":
        yield from _differ("power_die_rule", "dies were combined in different ways", metric, a, b)


def marks(metric: Metric, a: Ground, b: Ground) -> Iterator[str]:
    """What to say beside a figure that is compared."""
    for name in {"energy": ("power_source", "power_scope"), "cost": ("purchase", "allocation")}.get(metric.kind, ()):
        left, right = a.texts(metric, name), b.texts(metric, name)
        if left != right or len(left) > 1:
            yield f"{name} differs: {_listed(left)} and {_listed(right)}"
    dates = {a.texts(metric, "price_date"), b.texts(metric, "price_date")} if metric.kind == "cost" else set()
    if len(dates) > 1:
        yield "prices are of different dates"


def _net(metric: Metric, a: Ground, b: Ground) -> Iterator[str]:
    """What idle is differs between kinds of chip, and so does what is left without it."""
    chips = [ground.column.texts("chip", ground.group) for ground in (a, b)]
    if chips[0] != chips[1]:
        yield f"net of idle is not compared across kinds of chip ({_listed(chips[0])} and {_listed(chips[1])})"
    yield from _differ("idle_def", "definitions of idle differ", metric, a, b)


def _energy(metric: Metric, a: Ground, b: Ground, options: Options) -> Iterator[str]:
    kinds = a.evidence(metric), b.evidence(metric)
    if len(set("+".join(kinds).split("+"))) > 1:
        why = (
            "what is modeled enters no measured ratio"
            if "modeled" in "+".join(kinds)
            else "not the same kind of figure"
        )
        yield f"energy evidence differs ({kinds[0]} and {kinds[1]}): {why}"
        return
    if not options.mix_power:
        yield from _differ("power_source", "power sources differ", metric, a, b, "--mix-power")
        yield from _differ("power_scope", "power scopes differ", metric, a, b, "--mix-power")
    yield from _differ("power_assumption", "watt assumptions differ", metric, a, b)


def _differ(
    name: str, what: str, metric: Metric, a: Ground, b: Ground, option: str = "", *, stated: bool = False
) -> Iterator[str]:
    """A refusal where sides differ in a text, one side by itself does, or where ``stated`` neither says it."""
    left, right = a.texts(metric, name), b.texts(metric, name)
    if left != right or len(left) > 1 or (stated and not left):
        asked = f"; {option} compares them all the same" if option else ""
        yield f"{what} ({_listed(left)} and {_listed(right)}){asked}"


def _listed(texts: tuple[str, ...]) -> str:
    return ", ".join(texts) or "not stated"


def _whole(value: float | None) -> str:
    return "not stated" if value is None else f"{value:g}"
