"""The outside meter of a run: its trace read when all windows are over, aligned with them, and journaled in parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from perwatt.errors import InputError
from perwatt.power import meter, meterfile
from perwatt.power.meter import Interval
from perwatt.power.settings import Settings
from perwatt.power.trace import Trace
from perwatt.runner.recorder import Recorder


def read(recorder: Recorder, settings: Settings, chips: int, tell: Callable[[str], None]) -> None:
    """Journal what an outside meter says of the windows, or say what to do once its file is there.

    Args:
        recorder: of the run.
        settings: with the trace.
        chips: that work.
        tell: told how the meter's clock stands.

    Raises:
        InputError: the trace cannot be used; all rows keep their times.
    """
    assert settings.trace is not None
    assert settings.meter_class is not None
    path, ledger = Path(settings.trace), recorder.ledger
    windows = {key: found for key, event in ledger.windows.items() if (found := Interval.of(event))}
    if all(ledger.windows[key].get("metered") for key in windows):
        return
    if not path.exists():
        tell(f"energy: {path} is not there yet; when it is, run the same again with --resume")
        return
    try:
        file = meterfile.read(path, accuracy_pct=settings.meter_class, scope=settings.scope, chips=chips)
        clock = meter.aligned(file, list(windows.values()), offset_s=settings.meter_offset_s)
    except InputError:
        tell("energy: all rows are kept without it; correct the trace and run the same with --resume")
        raise
    spans = [
        {"case": case, "impl": impl, "reason": reason, "trace": _slice(clock.trace, window)}
        for ((case, impl), window), reason in zip(windows.items(), clock.reasons, strict=True)
    ]
    facts = {"offset_s": clock.offset_s, "offset_u95": clock.offset_u95, "correlation": clock.correlation}
    recorder.add({"event": "meter", **facts, "windows": spans})
    tell(f"energy: the meter's clock is {clock.offset_s:+.2f} s from ours, ±{clock.offset_u95:.2f} s")


def look(settings: Settings, chips: int, tell: Callable[[str], None]) -> None:
    """Say in one line that what the meter's file holds so far cannot be read, while the run can still be stopped.

    It is no refusal: the meter may not have written all, and once the file is put right the windows are of use.
    """
    assert settings.trace is not None
    assert settings.meter_class is not None
    path = Path(settings.trace)
    try:
        if path.exists():
            meterfile.read(path, accuracy_pct=settings.meter_class, scope=settings.scope, chips=chips)
    except InputError as error:
        tell(f"energy: the meter's trace is of no use so far: {error}; without a better one rows get no energy by it")


def _slice(trace: Trace, window: Interval) -> dict[str, Any]:
    """The part of a trace around a window."""
    first, last = window.start - window.before, window.end + window.after
    kept = [at for at, time in enumerate(trace.times) if first <= time <= last]
    found = Trace(facts=trace.facts)
    for at in kept:
        found.times.append(trace.times[at])
        found.took.append(trace.took[at])
        found.unix.append(trace.unix[at])
        found.readings.append(trace.readings[at])
    return found.message()
