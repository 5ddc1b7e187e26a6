"""Where the CSVs of published rows are: inside the installed package, else at the repository's root."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from perwatt.errors import InputError, expected


@cache
def root() -> Path:
    """The folder ``results/published/``: in the wheel ``perwatt/published/``, else at the repository's root.

    Raises:
        FileNotFoundError: neither exists, so the installation is damaged.
    """
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "published", package.parents[1] / "results" / "published"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no published rows beside {package}: reinstall perwatt")


def names() -> list[str]:
    """Names of the shipped CSVs."""
    return sorted(path.stem for path in root().glob("*.csv"))


def find(name: str) -> Path:
    """A shipped CSV by name.

    Raises:
        InputError: there is none of that name; the message has the nearest one.
    """
    if name not in names():
        raise InputError(expected(name, names()), field="published")
    return root() / f"{name}.csv"


def sources() -> list[Path]:
    """Tables that the CSVs are made from; the repository has them, the wheel does not."""
    return sorted((root() / "sources").glob("*.yaml"))
