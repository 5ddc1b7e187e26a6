"""The journal of a run on a chip that gives percentages by the minute, beside a meter of its node."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fakes import meter
from perwatt.power.alignment import Load
from perwatt.power.base import Facts, Reading
from perwatt.power.trace import Trace

WALL = 1_770_000_000.0  # of the wall clock when the monotonic one is at 0; a whole minute, as it happens
BACKGROUND_W, MAXIMUM_W = 620.0, 1050.0  # of the node, with one chip at work
MINUTE, RAMP_S, QUIET_S, MINUTES = 60.0, 3.0, 6.0, 2
DEVICE = {"chip": "trainium2", "instance_type": "trn2.48xlarge", "driver": "2.24", "devices_per_chip": 8}


def watts(pct: float) -> float:
    return BACKGROUND_W + pct / 100 * (MAXIMUM_W - BACKGROUND_W)


def write(folder: Path, levels: Sequence[float], *, ahead: float, seed: int = 1, **device: Any) -> Path:
    """A run's folder with a window for each percentage, and ``meter.csv`` beside it, whose clock is ``ahead``."""
    rng = np.random.default_rng(seed)
    loads = [
        Load(start=(1 + 4 * at) * MINUTE - RAMP_S, end=(1 + 4 * at + MINUTES) * MINUTE + RAMP_S, before=QUIET_S,
             after=QUIET_S)
        for at in range(len(levels))
    ]  # fmt: skip
    events = [
        {"event": "run", "run_id": "r", "device": DEVICE | device},
        {"event": "sensors", "mode": "all", "chips": 1, "reason": ""},
    ]
    for at, (load, pct) in enumerate(zip(loads, levels, strict=True)):
        events += [{"event": "case", "case": f"{at}", "name": f"case {at}", "impls": {"torch": "eager"}}]
        events += [_window(f"{at}", load, pct, rng)]
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    _meter(folder, loads, levels, ahead, rng)
    return folder


def _window(case: str, load: Load, pct: float, rng: np.random.Generator) -> dict[str, Any]:
    """Polled each second. The value changes when a minute is over: a full one under load has its percentage."""
    facts = Facts(
        sensor="neuron-sysfs", source="none", scope="package", quantity="%", kind="buckets", channels=("0",),
        update_s=MINUTE, poll_s=1.0, window_s=120.0, resolution=0.01, dies=2,
    )  # fmt: skip
    trace = Trace(facts=facts)
    first = load.start + RAMP_S
    for at in np.arange(load.start - QUIET_S, load.end + QUIET_S, 1.0):
        over = int((at - first) // MINUTE)  # minutes of load that are over
        mean = round(pct + rng.normal(0, 0.05), 2) if at >= first + MINUTE else 0.5
        if trace.readings and trace.readings[-1].stamp == WALL + (over - 1) * MINUTE + first:
            mean = trace.readings[-1].values[0]
        reading = Reading(values=(mean,), lows=(mean - 1,), highs=(mean + 1,), stamp=WALL + (over - 1) * MINUTE + first)
        trace.add(at - 0.001, at + 0.001, WALL + at, reading)
    end = load.end + QUIET_S
    return {
        "event": "window", "case": case, "impl": "torch", "ramp_s": RAMP_S, "marks": [[load.start, 0], [load.end, 900]],
        "ended": "", "failed": "", "clocks": [end, WALL + end], "traces": [trace.message()],
    }  # fmt: skip


def _meter(
    folder: Path, loads: Sequence[Load], levels: Sequence[float], ahead: float, rng: np.random.Generator
) -> None:  # fmt: skip
    edges, power = [0.0], [watts(0.0)]
    for load, pct in zip(loads, levels, strict=True):
        edges += [load.start, load.end]
        power += [watts(pct), watts(0.0)]
    scene = meter.Scene(edges=np.array([*edges, loads[-1].end + 100.0]), watts=np.array(power), loads=tuple(loads))
    times, seen = scene.seen(1.0, 1.0, 4.0, rng)
    meter.csv(folder / "meter.csv", times + WALL + ahead, seen)
