"""What an emulation goes by: its seed, and how late asynchronous work may happen."""

from __future__ import annotations

import random

from fakes.gluon.errors import Refused

LATENESS = (0.0, 0.5, 0.9, 1.0)  # of which each program gets one, where none is told


class Session:
    """One `with emulated(...)`."""

    def __init__(self, seed: int, lateness: float | None, version: str) -> None:
        self.rng = random.Random(seed)
        self.lateness, self.version = lateness, version

    def draw(self) -> float:
        return self.rng.choice(LATENESS) if self.lateness is None else self.lateness


_sessions: list[Session] = []


def begin(one: Session) -> None:
    _sessions.append(one)


def end() -> None:
    _sessions.pop()


def session() -> Session:
    if not _sessions:
        raise Refused("a kernel of the emulator is launched outside of `with emulated(...)`")
    return _sessions[-1]


def since_3_9(name: str) -> None:
    """For what earlier versions lack."""
    if session().version == "3.6":
        raise AttributeError(f"Triton 3.6 has no {name}")
