"""Who is to blame when the worker is lost: the impl that it named last."""

from __future__ import annotations

from perwatt.results.schema import Status
from perwatt.runner.supervisor import WorkerLost


class Attempt:
    """One request to the worker.

    Attributes:
        waiting: impls without an outcome yet.
        busy: the one that was named last, which is to blame if the worker is lost; empty after an outcome.
    """

    def __init__(self, waiting: list[str]) -> None:
        self.waiting, self.busy = waiting, ""

    def settle(self, impl: str) -> None:
        """An impl has its outcome."""
        self.waiting.remove(impl)
        self.busy = ""

    def blame(self) -> str | None:
        """Take out the impl that cost the worker its life, or None when all had their outcome before."""
        if not self.waiting:
            return None
        impl = self.busy if self.busy in self.waiting else self.waiting[0]
        self.settle(impl)
        return impl

    def complete(self) -> None:
        """The worker says that it is done.

        Raises:
            WorkerLost: it is not.
        """
        if self.waiting:
            raise WorkerLost(Status.CRASHED, "the worker sent no outcome")
