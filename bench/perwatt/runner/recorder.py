"""One run's record: every event into the journal first, then into what is made from it."""

from __future__ import annotations

import json
import signal
import time

from perwatt.errors import InputError
from perwatt.results import csvfile, power, samples
from perwatt.results.project import Projection
from perwatt.results.schema import Row
from perwatt.runner import environment
from perwatt.runner import folder as files
from perwatt.runner.environment import Record
from perwatt.runner.folder import Folder
from perwatt.runner.journal import Event, Journal
from perwatt.runner.ledger import Key, Ledger
from perwatt.runner.part import Part

STOPPING = (signal.SIGINT, signal.SIGTERM)
PROJECTING_SHARE = 0.02  # of the run's time, at most, goes into rewriting results.csv and samples.jsonl


class Recorder:
    """Keeps journal, ledger and projections in step.

    Args:
        folder: the run's folder, locked.
        journal: its journal, open.
        ledger: what the journal says.
    """

    def __init__(self, folder: Folder, journal: Journal, ledger: Ledger) -> None:
        self.ledger = ledger
        self._folder, self._journal = folder, journal
        self._projection = Projection(ledger)
        self._began = time.monotonic() - ledger.spent_s
        self._project_at = 0.0

    @property
    def spent_s(self) -> float:
        """Seconds that the run has taken, those before a resume included."""
        return time.monotonic() - self._began

    def add(self, event: Event) -> None:
        """Journal an event, then act on it; a signal that comes between waits."""
        event = {**event, "t_s": round(self.spent_s, 3)}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            self._journal.append(event)
            self.ledger.apply(event)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def add_part(self, part: Part) -> None:
        """Journal a part, without the fields that say nothing new."""
        usual = Part(case="", impl="").message()
        fields = {name: value for name, value in part.message().items() if name == "status" or value != usual[name]}
        self.add({"event": "part", "part": fields})

    def note_environment(self, record: Record) -> None:
        """Journal the environment and write it for people, unless the journal has it.

        Raises:
            InputError: the run began in one in which numbers may be others.
        """
        before = self.ledger.env.get("record")
        if before and (changed := environment.differences(before, record)):
            raise InputError(f"cannot resume: {changed[0]}, as the run began; begin a new one", field="environment")
        if before != record:
            env_id = environment.env_id(record)
            self.add({"event": "env", "env_id": env_id, "record": record})
            files.replace(self._folder.environment, [json.dumps({"env_id": env_id, **record}, indent=2), "\n"])

    def rows(self) -> dict[Key, Row]:
        """Rows of all that has an outcome, by case and impl, in the order of the suite."""
        return self._projection.rows()

    def project(self, *, now: bool = False) -> list[Row]:
        """Write what is made from the journal anew, unless that would take more than its share of the run's time.

        Args:
            now: write it whatever it takes.
        """
        start = time.monotonic()
        if not now and start < self._project_at:
            return []
        rows = list(self._projection.rows().values())
        files.replace(self._folder.samples, samples.lines(self.ledger))
        if self.ledger.windows or self.ledger.idles:
            files.replace(self._folder.power, power.lines(self.ledger))
        csvfile.write(rows, self._folder.results)
        end = time.monotonic()
        self._project_at = end + (end - start) / PROJECTING_SHARE
        return rows
