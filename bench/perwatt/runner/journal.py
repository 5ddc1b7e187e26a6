"""The journal: the run's truth, one JSON line per event, appended and on disk before anything else happens.

A kill can tear only the last line; it is cut off when the run is resumed. Everything else of a run's folder is made
from these lines.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from perwatt.errors import InputError
from perwatt.runner.folder import writing

Event = dict[str, Any]


def read(path: Path) -> tuple[list[Event], int]:
    """Events of a journal, and the length in bytes of what they fill: a torn last line is left out of both.

    Raises:
        InputError: a line that is not the last is no event.
    """
    data = path.read_bytes() if path.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    return [_event(path, number, line) for number, line in enumerate(whole.splitlines(), 1)], len(whole)


def as_read(event: Event) -> Event:
    """An event as it comes back from the file, to be compared with one that did."""
    return dict(json.loads(json.dumps(event, allow_nan=False)))


def _event(path: Path, number: int, line: bytes) -> Event:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise InputError("found no event, expected a JSON object with `event`", file=str(path), line=number)
    return event


class Journal:
    """An open journal.

    Args:
        path: the file; made if it does not exist.
        length: where the whole lines end; what stands behind is cut off.
    """

    def __init__(self, path: Path, length: int) -> None:
        self._path, self._length = path, length
        with writing(path):
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._file, length)

    def append(self, event: Event) -> None:
        """Put one event on disk, whole or not at all.

        Raises:
            InputError: it cannot be written (no space, quota, a file system gone read-only).
        """
        text = json.dumps(event, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        line = text.encode(errors="backslashreplace") + b"\n"  # half a character, as a name of a file may have
        with writing(self._path):
            try:
                self._write(line)
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, self._length)
                raise
        self._length += len(line)

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
