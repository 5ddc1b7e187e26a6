"""JSON lines both ways over two pipe ends that carry nothing else.

The two sides alternate strictly: the worker sends, then waits until the other side has done with the message. So the
orchestrator writes, draws and computes only while the worker waits, and never beside a sample.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Mapping
from typing import Any

CHUNK = 1 << 16  # bytes; what a pipe holds


class Channel:
    """One side of the conversation.

    Args:
        reader: file descriptor to read from.
        writer: file descriptor to write to.
        process: pidfd of the process on the other side, whose end is the end of the conversation even where a
            grandchild still holds the pipe open; None where there is none.
    """

    def __init__(self, reader: int, writer: int, process: int | None = None) -> None:
        self._reader, self._writer = reader, writer
        self._parts: list[bytes] = []
        self._descriptors = [reader, writer]
        self._poll = select.poll()
        self._poll.register(reader, select.POLLIN)
        if process is not None:
            self._descriptors.append(process)
            self._poll.register(process, select.POLLIN)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message.

        Raises:
            BrokenPipeError: nobody is there to read it.
        """
        data = memoryview(json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n")
        while data:
            data = data[os.write(self._writer, data) :]

    def receive(self, deadline: float | None = None) -> dict[str, Any]:
        """The next message.

        Args:
            deadline: value of ``time.monotonic()`` after which waiting ends.

        Raises:
            EOFError: the other side is gone.
            TimeoutError: the deadline passed.
        """
        while True:
            chunk = self._read(deadline)
            head, newline, tail = chunk.partition(b"\n")
            self._parts.append(head)
            if newline:
                line, self._parts = b"".join(self._parts), [tail]
                message: dict[str, Any] = json.loads(line)
                return message

    def _read(self, deadline: float | None) -> bytes:
        if len(self._parts) == 1 and b"\n" in self._parts[0]:
            return self._parts.pop()
        wait = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = {descriptor for descriptor, _ in self._poll.poll(wait)}
        if not ready or (deadline is not None and time.monotonic() > deadline):
            raise TimeoutError
        chunk = os.read(self._reader, CHUNK) if self._reader in ready else b""
        if not chunk:
            raise EOFError
        return chunk

    def close(self) -> None:
        """Hang up; a second time does nothing."""
        while self._descriptors:
            os.close(self._descriptors.pop())
