"""Where shipped configuration files are: inside the installed package, else at the repository's root."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from perwatt.errors import InputError, expected


@cache
def root() -> Path:
    """The folder ``configs/``: in the wheel beside this file, in an editable install at the repository's root.

    Raises:
        FileNotFoundError: neither exists, so the installation is damaged.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "configs", here.parent.parent / "configs"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no configs folder beside {here}: reinstall perwatt")


def names(kind: str) -> list[str]:
    """Names of the shipped files of one kind (``suites``, ``models``)."""
    return sorted(path.stem for path in (root() / kind).glob("*.yaml"))


def find(kind: str, name: str) -> Path:
    """A shipped file by name.

    Raises:
        InputError: there is none of that name; the message has the nearest one.
    """
    path = root() / kind / f"{name}.yaml"
    if name not in names(kind):
        raise InputError(expected(name, names(kind)), field=kind.removesuffix("s"))
    return path
