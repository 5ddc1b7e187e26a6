"""The command line: one command per file, imported only when it is called or listed."""

from __future__ import annotations

from perwatt.cli._app import main

__all__ = ["main"]
