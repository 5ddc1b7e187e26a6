"""``power.csv``: every reading of every energy window, for people and their plots. Made from the journal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from perwatt.power.trace import Trace
from perwatt.runner.ledger import Ledger

NEVER = (0.0, -1.0)
HEADER = (
    "run_id", "part", "case", "impl", "sensor", "channel", "unit", "monotonic_s", "unix_s", "value", "low", "high",
    "stamp", "loaded",
)  # fmt: skip
"""``part`` is ``window``, ``idle start`` or ``idle end``; ``loaded`` says whether the load ran at that moment."""


def lines(ledger: Ledger) -> Iterator[str]:
    """Lines of the file, its header first; none where nothing was read."""
    parts = list(_parts(ledger))
    if not parts:
        return
    yield _line(HEADER)
    for head, loaded, message in parts:
        trace = Trace.from_message(message)
        for at, unix, reading in zip(trace.times, trace.unix, trace.readings, strict=True):
            busy = int(loaded[0] <= at <= loaded[1])
            for place, channel in enumerate(trace.facts.channels):
                low = reading.lows[place] if reading.lows else ""
                high = reading.highs[place] if reading.highs else ""
                stamp = "" if reading.stamp is None else reading.stamp
                yield _line((*head, trace.facts.sensor, channel, trace.facts.quantity, f"{at:.6f}", f"{unix:.6f}",
                             reading.values[place], low, high, stamp, busy))  # fmt: skip


def _parts(ledger: Ledger) -> Iterator[tuple[tuple[str, ...], tuple[float, float], dict[str, Any]]]:
    run = ledger.run["run_id"]
    for event in ledger.idles:
        for message in event["traces"]:
            yield (run, f"idle {event['when']}", "", ""), NEVER, message
    for (case, impl), event in ledger.windows.items():
        name = ledger.cases[case]["name"]
        loaded = (event["marks"][0][0], event["marks"][-1][0]) if event["marks"] else NEVER
        for message in event["traces"]:
            yield (run, "window", name, impl), loaded, message


def _line(cells: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
