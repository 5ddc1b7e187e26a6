"""Files that a suite names: found beside it, and kept with a run so that the run's suite stands alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perwatt.errors import InputError
from perwatt.spec.yamlfile import Document

KEPT_IN = "models"  # folder of the copies in a run's folder
MOST_BYTES = 2**20  # a config has some thousand


class Attached:
    """Files named by one suite.

    Args:
        document: the suite's file.
    """

    def __init__(self, document: Document) -> None:
        self._document, self._folder = document, Path(document.file).parent
        self._found: dict[str, Path] = {}

    def located(self, params: Mapping[str, Any], names: tuple[str, ...], place: str) -> dict[str, Any]:
        """Parameters, or lists of values to sweep, with paths as they are from here.

        A path is relative to the suite's folder; if nothing is there, to the folder that the program runs in.

        Args:
            params: by name.
            names: of parameters that may be paths.
            place: of ``params`` in the file.
        """
        found = dict(params)
        for name in found.keys() & set(names):
            value = found[name]
            if isinstance(value, list):
                found[name] = [self._path(item, f"{place}.{name}[{at}]") for at, item in enumerate(value)]
            else:
                found[name] = self._path(value, f"{place}.{name}")
        return found

    def _path(self, value: Any, place: str) -> Any:
        if not isinstance(value, str) or not value.endswith(".json"):
            return value
        beside, here = self._folder / value, Path(value)
        path = here if here.exists() and not beside.exists() else beside
        self._found[place] = path
        return str(path)

    def kept(self) -> tuple[str, dict[str, str]]:
        """The suite's text with every path as it is in a run's folder, and the text of each file by that path.

        Raises:
            InputError: a file is too large for what it is said to be.
        """
        names: dict[Path, str] = {}
        for path in self._found.values():
            names.setdefault(path.resolve(), _name(path, names.values()))
        text = self._document.text
        for place in sorted(self._found, key=lambda at: self._document.spans[at], reverse=True):
            start, end = self._document.spans[place]
            text = text[:start] + json.dumps(names[self._found[place].resolve()], ensure_ascii=False) + text[end:]
        return text, {name: _text(path) for path, name in names.items()}


def _name(path: Path, taken: Any) -> str:
    """A name by which a model is called as by its path: that of its folder, for a ``config.json``."""
    whole = path.absolute()
    name = f"{whole.parent.name or 'config'}.json" if whole.name == "config.json" else whole.name
    candidates = [f"{KEPT_IN}/{name}", *(f"{KEPT_IN}/{count}/{name}" for count in range(2, len(taken) + 3))]
    return next(candidate for candidate in candidates if candidate not in taken)


def _text(path: Path) -> str:
    """A file's text, which was read before and so is there and is text."""
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"found {path.stat().st_size:,} bytes, expected a config of a few thousand", file=str(path))
    return path.read_text(encoding="utf-8")
