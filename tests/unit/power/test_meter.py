"""An outside meter's trace on our clock, and what it says of each window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fakes import meter as fake
from perwatt.errors import InputError
from perwatt.power import evaluate, meter, meterfile
from perwatt.power.meter import Interval
from perwatt.power.trace import Trace

WALL = 1_770_000_000.0  # of the wall clock when the monotonic one is at 0


def made(path: Path, *, ahead: float, step: float = 1.0, quiet: float = 8.0):
    rng = np.random.default_rng(8)
    scene = fake.scene([300.0, 380.0, 200.0], rng, quiet=quiet)
    times, watts = scene.seen(step, step, 3.0, rng)
    file = meterfile.read(fake.csv(path / "meter.csv", times + WALL + ahead, watts), accuracy_pct=1.0, scope="node")
    windows = [
        Interval(start=one.start, end=one.end, unix=one.start + WALL, before=one.before, after=one.after)
        for one in scene.loads
    ]
    return scene, file, windows


def test_the_trace_is_on_our_clock_and_gives_the_energy(tmp_path: Path):
    scene, file, windows = made(tmp_path, ahead=-42.6)
    found = meter.aligned(file, windows)
    assert found.offset_s == pytest.approx(-42.6, abs=found.offset_u95)
    assert found.offset_u95 <= 0.6
    assert found.correlation
    assert found.correlation > 0.9
    assert found.reasons == ("", "", "")
    facts = found.trace.facts
    assert (facts.sensor, facts.source, facts.kind, facts.quantity) == ("meter", "metered", "samples", "W")
    assert (facts.scope, facts.rel_sys, facts.update_s) == ("node", 0.01, pytest.approx(1.0))
    assert found.trace.readings[0].stamp == pytest.approx(file.times[0])
    assert Trace.from_message(found.trace.message()) == found.trace
    for window in windows:
        energy = evaluate.measured(found.trace, window.start + 5, window.end)
        truth = scene.joules(energy.start, energy.end)
        late = meter.shift_j(found.trace, energy.start, energy.end, found.offset_u95)
        assert energy.lo - late <= truth <= energy.hi + late


def test_a_stated_offset(tmp_path: Path):
    _, file, windows = made(tmp_path, ahead=30.0)
    found = meter.aligned(file, windows, offset_s=30.0)
    assert (found.offset_s, found.offset_u95, found.correlation) == (30.0, pytest.approx(0.5), None)
    assert found.trace.times[0] == pytest.approx(file.times[0] - WALL - 30.0, abs=1e-6)


def test_clocks_of_the_host_that_are_set_do_not_matter_unless_an_offset_to_them_is_stated(tmp_path: Path):
    _, file, windows = made(tmp_path, ahead=10.0)
    last = windows[-1]
    windows[-1] = Interval(start=last.start, end=last.end, unix=last.unix + 3, before=last.before, after=last.after)
    assert meter.aligned(file, windows).offset_s == pytest.approx(10.0, abs=0.6)
    with pytest.raises(InputError, match=r"meter offset: the host's clock was set by 3\.0 s"):
        meter.aligned(file, windows, offset_s=10.0)
    windows[-1] = Interval(start=last.start, end=last.end, unix=last.unix + 3e4, before=8.0, after=8.0)
    with pytest.raises(InputError, match="two boots"):
        meter.aligned(file, windows)


def test_no_overlap_shows_both_times(tmp_path: Path):
    _, file, windows = made(tmp_path, ahead=0.0)
    days = [Interval(start=w.start, end=w.end, unix=w.unix + 86_400, before=8.0, after=8.0) for w in windows]
    with pytest.raises(InputError) as raised:
        meter.aligned(file, days)
    text = str(raised.value)
    assert "meter.csv: found a trace from 2026-02-02 02:40:" in text
    assert "expected one that overlaps the run's windows, 2026-02-03 02:43:" in text
    assert text.count(" UTC") == 2
    with pytest.raises(InputError, match="by the meter's clock as stated"):
        meter.aligned(file, windows, offset_s=7200.0)


def test_a_slow_meter_is_too_slow_for_a_window_not_for_the_file(tmp_path: Path):
    _, file, windows = made(tmp_path, ahead=0.0, step=10.0, quiet=20.0)
    first = windows[0]
    long = Interval(start=first.start - 110, end=first.end, unix=first.unix - 110, before=1.0, after=1.0)
    found = meter.aligned(file, [long, *windows[1:]], offset_s=0.0)
    assert found.reasons[0] == ""
    assert found.reasons[1].startswith("6 lines of the meter's trace in the window, expected at least 10")


def test_a_window_that_the_trace_does_not_reach_over(tmp_path: Path):
    _, file, windows = made(tmp_path, ahead=0.0)
    cut = file.times < windows[2].unix + 20
    short = meterfile.MeterFile(file=file.file, scope="node", accuracy=0.01, times=file.times[cut],
                                watts=file.watts[cut], channels=file.channels)  # fmt: skip
    found = meter.aligned(short, windows)
    assert found.reasons == ("", "", "the meter's trace does not reach over the whole window")


@pytest.mark.parametrize(("scope", "chips"), [("package", 16), ("node", 1)])
def test_a_meter_says_how_many_chips_it_sees(tmp_path: Path, scope: str, chips: int):
    times = WALL + np.arange(120.0)
    file = meterfile.read(fake.csv(tmp_path / "meter.csv", times, np.linspace(11_000.0, 11_300.0, 120)),
                          accuracy_pct=1.0, scope=scope, chips=16)  # fmt: skip
    found = meter.aligned(
        file, [Interval(start=20.0, end=100.0, unix=WALL + 20.0, before=5.0, after=5.0)], offset_s=0.0
    )
    assert found.trace.facts.chips == chips
    assert evaluate.measured(found.trace, 25.0, 100.0).mean == pytest.approx(11_150.0, rel=0.01)


def test_the_worth_of_a_shift():
    facts = meter.Facts(sensor="meter", source="metered", scope="node", quantity="W", kind="samples",
                        channels=("a", "b"), update_s=1.0, poll_s=1.0, window_s=10.0, resolution=1.0)  # fmt: skip
    times = [float(at) for at in range(101)]
    level = Trace(facts=facts, times=times, readings=[meter.Reading(values=(60.0, 40.0)) for _ in times])
    rising = Trace(facts=facts, times=times, readings=[meter.Reading(values=(at, at)) for at in times])
    assert meter.shift_j(level, 20.0, 60.0, 2.0) == pytest.approx(0.0, abs=1e-9)
    assert meter.shift_j(rising, 20.0, 60.0, 2.0) == pytest.approx(2 * 2.0 * 40.0)  # (P(end) - P(start)) x shift


def test_the_interval_of_a_journal_s_window():
    event = {"marks": [[100.0, 0], [130.0, 5], [160.5, 9]], "clocks": [165.5, WALL + 165.5]}
    found = Interval.of(event)
    assert found == Interval(start=100.0, end=160.5, unix=WALL + 100.0, before=5.0, after=5.0)
    assert Interval.of({"marks": [], "clocks": []}) is None
