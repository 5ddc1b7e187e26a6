"""One energy window: what the sensor said, what of it was trimmed off, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from perwatt.errors import InputError
from perwatt.power import evaluate, steady
from perwatt.power.measured import Unusable
from perwatt.power.trace import Trace
from perwatt.report.figures import Figure, literal
from perwatt.report.format import number
from perwatt.runner import journal
from perwatt.runner.journal import Event
from perwatt.runner.ledger import Ledger

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

STEADY, TRIMMED, LINE, MEAN = "#dceefb", "#eeeeee", "#1f6fb2", "#b2341f"
LEAST_S = 0.3  # of a step of a counter's power: closer readings show when they were taken, not what was drawn


def _draw(canvas: Canvas, paths: Sequence[Path], chosen: str) -> None:
    """The window of the first case of a run whose name has ``chosen`` in it, first sensor."""
    if len(paths) != 1:
        raise InputError(f"found {len(paths)} paths, expected one run's folder", field="PATH")
    ledger = Ledger.of(journal.read(paths[0] / "journal.jsonl")[0])
    name, event = _chosen(ledger, paths[0], chosen)
    trace = Trace.from_message(event["traces"][0])
    start, end = event["marks"][0][0], event["marks"][-1][0]
    axes = canvas.subplots()
    axes.set_title(literal(name), loc="left")
    axes.set_xlabel("seconds since the load began")
    _curve(axes, trace, start)
    _spans(axes, event, trace, start, end)
    axes.set_ylim(bottom=0)
    canvas.legend(loc="outside lower center", frameon=False, ncols=4)


def _chosen(ledger: Ledger, folder: Path, chosen: str) -> tuple[str, Event]:
    found = [
        (f"{ledger.cases[case]['name']}, {impl}", event)
        for (case, impl), event in ledger.windows.items()
        if event["marks"] and event["traces"] and event["traces"][0]["values"]
    ]
    picked = [one for one in found if chosen in one[0]]
    if not picked:
        there = "; ".join(name for name, _ in found)
        if not found:
            message = "found no window with readings, expected a run with energy by a sensor (run --energy all)"
            raise InputError(message, file=str(folder))
        raise InputError(f"found no window of {chosen!r} with readings, expected one of: {there}", file=str(folder))
    return picked[0]


def _curve(axes: Axes, trace: Trace, start: float) -> None:
    """What the sensor said over time; of a counter its slope."""
    times = [at - start for at in trace.times]
    values = [sum(reading.values) for reading in trace.readings]
    facts = trace.facts
    axes.set_ylabel("percent of a maximum" if facts.quantity == "%" else "W")
    label = literal(f"{facts.sensor} ({facts.kind})")
    if facts.kind == "counter":
        steps = [(a, b, (v - u) / (b - a)) for (a, u), (b, v) in pairwise(_spaced(times, values)) if v >= u]
        axes.plot([(a + b) / 2 for a, b, _ in steps], [watts for *_, watts in steps], color=LINE, lw=1, label=label)
    elif facts.kind == "buckets":
        axes.step(times, values, where="post", color=LINE, lw=1, label=label)
    else:
        axes.plot(times, values, color=LINE, lw=1, label=label)


def _spaced(times: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """Readings by which the counter had just moved, some time apart."""
    said = list(zip(times, values, strict=True))
    kept = said[:1]
    for (_, before), (at, value) in pairwise(said):
        if value != before and at - kept[-1][0] >= LEAST_S:
            kept.append((at, value))
    return kept


def _spans(axes: Axes, event: Event, trace: Trace, start: float, end: float) -> None:
    """The load, what of it counts, and its mean with the interval."""
    axes.axvspan(0, end - start, color=TRIMMED, label="load, trimmed off", lw=0)
    marks = [(float(at), float(count)) for at, count in event["marks"]]
    try:
        span = steady.steady(marks, start, end, event["ramp_s"])
        found = evaluate.measured(trace, span.start, span.end)
    except Unusable as error:
        axes.text(0.5, 0.5, f"not used: {literal(str(error))}", transform=axes.transAxes, ha="center", wrap=True)
        return
    axes.axvspan(found.start - start, found.end - start, color=STEADY, label="steady part", lw=0)
    unit = "%" if trace.facts.quantity == "%" else "W"
    lo, hi = found.lo / found.seconds, found.hi / found.seconds
    label = f"mean {number(found.mean)} {unit} [{number(lo)}, {number(hi)}]"
    axes.plot([found.start - start, found.end - start], [found.mean] * 2, color=MEAN, lw=2, label=label)


FIGURE = Figure(
    name="window", summary="an energy window: the sensor's trace, what was trimmed off, the mean", draw=_draw
)
