"""Measured rows that are kept in the repository, ``results/measured/``."""

from __future__ import annotations

from perwatt.results.published import shipped


def folders() -> list[str]:
    """The folder of measured rows, if this is a checkout that has any; an installed package has none."""
    folder = shipped.root().parent / "measured"
    return [str(folder)] if any(folder.rglob("*.csv")) else []
