"""Files of figures: where they are, how one becomes an object, and the bibliography they cite.

A user's files stand before the shipped ones: a file of the same name replaces the shipped one, or changes some fields
of it where it names it as its ``base``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from perwatt import configs
from perwatt.errors import InputError, expected
from perwatt.hardware.figure import Figure, Source
from perwatt.hardware.reader import Part, build, parts
from perwatt.spec import yamlfile
from perwatt.spec.yamlfile import Document, of_kind


def user_folder(kind: str) -> Path:
    """Where a user keeps own files of one kind: ``$PERWATT_CHIPS`` and the like, else under ``~/.config/perwatt``."""
    if given := os.environ.get(f"PERWATT_{kind.upper()}"):
        return Path(given)
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "perwatt" / kind


@dataclass(frozen=True)
class Library:
    """All files of one kind, by name; earlier folders go first."""

    kind: str
    folders: tuple[Path, ...]
    _documents: dict[Path, Document] = field(default_factory=dict, compare=False, repr=False)  # each is read once

    @classmethod
    def of(cls, kind: str, folder: str | Path | None = None) -> Library:
        """The user's folder, or another in its place, before the shipped one.

        Raises:
            InputError: the folder asked for is not there.
        """
        given = folder or os.environ.get(f"PERWATT_{kind.upper()}")
        if given and not Path(given).is_dir():
            raise InputError(f"found {str(given)!r}, expected a folder with {kind}", field=f"--{kind}" if folder else
                             f"PERWATT_{kind.upper()}")  # fmt: skip
        own = Path(folder) if folder else user_folder(kind)
        return cls(kind, (own, configs.root() / kind))

    def names(self) -> list[str]:
        """Names of all files."""
        return sorted({path.stem for folder in self.folders for path in folder.glob("*.yaml")})

    def own(self) -> list[str]:
        """Names of the user's files."""
        return sorted(path.stem for path in self.folders[0].glob("*.yaml"))

    def is_own(self, name: str) -> bool:
        """Whether the user has a file of that name."""
        return (self.folders[0] / f"{name}.yaml").is_file()

    def files(self, name: str) -> Iterator[Path]:
        """Files of that name, the user's first."""
        return (path for folder in self.folders if (path := folder / f"{name}.yaml").is_file())

    def read(self, name: str) -> tuple[dict[str, Any], Document, dict[str, Document]]:
        """Fields of a file on top of those of its base, the file, and the file that each field is from.

        Raises:
            InputError: no such file, or not readable, or a base that does not exist.
        """
        return self._read(name, list(self.files(name)), (name,))

    def replaced(self, name: str, key: str) -> Document | None:
        """The file whose value of a field another one, read on top of it or in its place, has replaced.

        None where only one file of those that can be read has the field.
        """
        files, given = list(self.files(name)), False
        while files:
            document = self._load(files[0])
            fields = of_kind("", document.value, dict)
            if key in fields and given:
                return document
            given = given or key in fields
            base = fields.get("base") or name
            files, name = files[1:] if base == name else list(self.files(base)), base
        return None

    def _load(self, path: Path) -> Document:
        if path not in self._documents:
            self._documents[path] = yamlfile.load(path)
        return self._documents[path]

    def _read(self, name: str, files: list[Path], seen: tuple[str, ...]) -> tuple[dict[str, Any], Document, Any]:
        document = self._load(files[0])
        with document.placed():
            fields = dict(of_kind("", document.value, dict))
            base = fields.get("base")
            if base is None:
                return fields, document, dict.fromkeys(fields, document)
            below = files[1:] if base == name else list(self.files(str(base)))
            if base != name and base in seen:
                cycle = " -> ".join((*seen[seen.index(base) :], base))
                raise InputError(f"found a cycle: {cycle}, expected a base that does not lead back", field="base")
            if not below:
                others = [other for other in self.names() if other not in seen]
                raise InputError(expected(base, others), field="base")
        given, _, where = self._read(str(base), below, (*seen, str(base)))
        left_out = {"names", "aliases"} if base != name else set()  # two chips never share a name
        kept = {key: value for key, value in given.items() if key not in left_out}
        if isinstance(fields.get("sources"), dict):
            fields["sources"] = kept.get("sources", {}) | fields["sources"]
        return kept | fields, document, where | dict.fromkeys(fields, document)


@cache
def bibliography() -> Mapping[str, Source]:
    """The shipped bibliography by key."""
    document = yamlfile.load(configs.root() / "sources.yaml")
    with document.placed():
        return {key: build(Source, entry, key) for key, entry in of_kind("", document.value, dict).items()}


def place(part: Part, where: Mapping[str, Document], sources: Mapping[str, Source]) -> None:
    """Tell every figure of a sheet its file, line and date; check that every source is in the bibliography.

    Raises:
        InputError: a source that is not.
    """
    for path, inside in parts(part):
        document = where.get(re.split(r"[.\[]", path)[0])
        source = getattr(inside, "source", None)
        if document is None or source is None:
            continue
        if source not in sources:
            mistake = InputError(expected(source, sources, "a key of the bibliography"), field=f"{path}.source")
            raise mistake.at(file=document.file, line=document.line(f"{path}.source"))
        if isinstance(inside, Figure):
            inside.put(document.file, document.line(path), sources[source].date)


def figures(value: Any) -> Iterator[tuple[str, Figure]]:
    """Every figure inside a value, with its path."""
    return ((path, part) for path, part in parts(value) if isinstance(part, Figure))
