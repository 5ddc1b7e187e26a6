"""Text of a file that somebody gives: UTF-8, with or without a byte order mark."""

from __future__ import annotations

from pathlib import Path

from perwatt.errors import InputError


def read(file: str) -> str:
    """All of it.

    Raises:
        InputError: it cannot be read, or is not UTF-8; with the line.
    """
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=file) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"found byte 0x{content[error.start]:02x}, expected UTF-8", file=file, line=line) from None
