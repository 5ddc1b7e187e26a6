"""A run's folder: made, locked, and never taken from another run."""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from perwatt.errors import InputError

RUNS = Path("results", "runs")  # under the current folder, unless --out names another
PROJECTIONS = ("results.csv", "samples.jsonl", "power.csv")  # made from the journal, so never there without it


def new_run_id() -> str:
    """An id that sorts by time and is unique."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z-{secrets.token_hex(4)}"


class Folder:
    """One run's folder.

    Attributes:
        path: the folder.
        journal, results, samples, power, environment, suite, log: the files in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = path / "journal.jsonl"
        self.results = path / "results.csv"
        self.samples = path / "samples.jsonl"
        self.power = path / "power.csv"
        self.environment = path / "env.json"
        self.suite = path / "suite.yaml"
        self.log = path / "worker.log"
        self._lock = path / ".lock"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder if need be and hold it for this process alone. The kernel lets go when the process dies.

        Raises:
            InputError: another process holds it, it cannot be written, or it has results that came from no journal.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._hold(lock)
            self._refuse_foreign()
            yield
        finally:
            os.close(lock)

    def keep(self, suite: str, attached: Mapping[str, str]) -> None:
        """Write the suite, and the files that it names beside it.

        Args:
            suite: its text.
            attached: text of each file, by its path in the folder.

        Raises:
            InputError: something cannot be written.
        """
        for name, text in attached.items():
            path = self.path / name
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, [text])
        replace(self.suite, [suite])

    def _hold(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise InputError(f"in use by another run (process {holder})", file=str(self.path)) from None
        with writing(self._lock):
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def _refuse_foreign(self) -> None:
        if self.journal.exists():
            return
        for name in PROJECTIONS:
            if (self.path / name).exists():
                message = f"found {name} but no journal.jsonl, expected a run's folder or a new one"
                raise InputError(message, file=str(self.path))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into one line that names the file.

    Raises:
        InputError: instead of OSError.
    """
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot be written ({reason})", file=str(path)) from error


def replace(path: Path, lines: Iterable[str]) -> None:
    """Write a text file so that at any moment either the old or the new one is there, whole.

    Raises:
        InputError: it cannot be written; the old one stays.
    """
    with writing(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(handle)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
