"""The worker on duty: started when there is something to do, replaced when it dies or its turn is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from perwatt.backends.base import Backend
from perwatt.errors import MissingHardware
from perwatt.runner import environment
from perwatt.runner.supervisor import START_S, Worker

Noted = Callable[[environment.Record], None]
Left = Callable[[int], None]
STARTS = 2  # a worker that dies twice in a row before it is up will not come up


class Crew:
    """Hands out a running worker.

    A worker by itself and a team of ranks never run side by side: a device may belong to a process until that ends. As
    a context it lets the last worker end by itself, or kills it where an exception passes through.

    Args:
        backend: device of the workers.
        log: file for what they print.
        run_id: of the run they work for.
        noted: told of the environment that the first one reports.
        left: told when one has ended how many of its executions failed, where that is counted only then.
    """

    def __init__(
        self, backend: Backend, log: Path, run_id: str, noted: Noted = lambda record: None,
        left: Left = lambda errors: None,
    ) -> None:  # fmt: skip
        self._backend, self._log, self._run_id, self._noted, self._left = backend, log, run_id, noted, left
        self._reckoning: Callable[[], int] | None = None
        self._on_duty: Worker | None = None
        self._world = 1
        self._known = False

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.relieve()
        else:
            self.discharge()

    def worker(self, world: int = 1) -> Worker:
        """A worker that is up.

        Args:
            world: devices that it works on, each with a process of its own; for one device the worker is the process.

        Raises:
            MissingHardware: none comes up.
            InputError: the environment that it reports is refused.
        """
        if world != self._world:
            self.relieve()
            self._world = world
        if self._on_duty is None:
            self._start()
        assert self._on_duty is not None
        return self._on_duty

    def relieve(self) -> None:
        """Let the worker end by itself; a new one takes its place when there is something to do."""
        worker, self._on_duty = self._on_duty, None
        if worker is not None:
            worker.stop()
            self._reckon()

    def discharge(self) -> None:
        """The same at once, and by force."""
        worker, self._on_duty = self._on_duty, None
        if worker is not None:
            worker.kill()
            self._reckon()

    def _reckon(self) -> None:
        came, self._reckoning = self._reckoning, None
        if came is not None:
            self._left(came())

    def _start(self) -> None:
        for attempt in range(1, STARTS + 1):
            world = self._world if self._world > 1 else None
            self._reckoning = self._backend.reckoning(self._world)
            self._on_duty, began = Worker(self._backend.address, self._log, self._run_id, world), time.monotonic()
            try:
                facts = self._on_duty.wait_ready()
                break
            except MissingHardware:
                self.discharge()
                if attempt == STARTS or time.monotonic() - began >= START_S:  # what hangs once hangs again
                    raise
        if not self._known:
            self._noted(environment.record(self._backend.describe(), facts))
            self._known = True
