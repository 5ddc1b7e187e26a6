"""An outside meter beside a run: loads with quiet around them, other work between, values of a moment or averages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perwatt.power.alignment import Load

Floats = NDArray[np.float64]
IDLE_W = 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Power over time, in steps.

    Attributes:
        edges: moments at which it changes; the last is the end.
        watts: from each of them on.
        loads: that a run knows of.
    """

    edges: Floats
    watts: Floats
    loads: tuple[Load, ...]

    def seen(self, step: float, averaged: float, noise: float, rng: np.random.Generator, ar: float = 0.0):
        """Times on the scene's clock, in the middle of what a value is of, and watts."""
        at = np.arange(rng.uniform(0, step) + averaged, self.edges[-1] - averaged - step, step)
        if averaged:
            used = np.concatenate([[0.0], np.cumsum(np.diff(self.edges) * self.watts)])
            ends = [np.interp(at + side * averaged / 2, self.edges, used) for side in (-1, 1)]
            watts = (ends[1] - ends[0]) / averaged
        else:
            watts = self.watts[np.searchsorted(self.edges, at, side="right") - 1]
        white = rng.normal(0, noise, len(at))
        error = white.copy()
        for index in range(1, len(at) if ar else 0):
            error[index] = ar * error[index - 1] + np.sqrt(1 - ar * ar) * white[index]
        return at, np.round(np.maximum(watts + error, 0.0), 1)

    def joules(self, start: float, end: float) -> float:
        """The truth."""
        used = np.concatenate([[0.0], np.cumsum(np.diff(self.edges) * self.watts)])
        a, b = np.interp([start, end], self.edges, used)
        return float(b - a)


def scene(levels: Iterable[float], rng: np.random.Generator, *, quiet: float = 8.0, length: float = 60.0,
          ramp: float = 0.0) -> Scene:  # fmt: skip
    """A run: for each level of watts other work, quiet, the load, quiet. ``ramp`` is how slowly a load rises, s."""
    now, edges, watts, loads = 200.0, [0.0], [IDLE_W], []
    for level in levels:
        other = float(rng.uniform(10, 40))
        edges += [now, now + other]
        watts += [float(rng.uniform(150, 400)), IDLE_W]
        now += other + quiet
        loads.append(Load(start=now, end=now + length, before=quiet, after=quiet))
        steps = np.arange(40) * ramp / 8 if ramp else np.zeros(1)
        edges += [*list(now + steps), now + length]
        watts += [*list(level - 0.3 * (level - IDLE_W) * (np.exp(-steps / ramp) if ramp else np.zeros(1))), IDLE_W]
        now += length + quiet
    return Scene(edges=np.array([*edges, now + 200.0]), watts=np.array(watts), loads=tuple(loads))


def csv(path: Path, unix: Floats, watts: Floats) -> Path:
    """Write a trace as a meter would."""
    lines = [
        f"{datetime.fromtimestamp(at, UTC).isoformat()},{value:g}\n" for at, value in zip(unix, watts, strict=True)
    ]
    path.write_text("# a meter\ntime,watts\n" + "".join(lines), encoding="utf-8")
    return path
