"""What a YAML file is by its uppermost keys, so that one given in another's place is not taken for a bad one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perwatt.errors import InputError
from perwatt.spec.yamlfile import Document


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One kind of file.

    Attributes:
        title: with its article.
        keys: of which a file of this kind has at least one, and files of other kinds have none.
        use: command that reads it, with ``{file}`` and ``{folder}``.
    """

    title: str
    keys: frozenset[str]
    use: str


KINDS: Mapping[str, Kind] = {
    "suite": Kind(title="a suite", keys=frozenset({"suite", "cases"}), use="perwatt validate {file}"),
    "prices": Kind(title="a price list", keys=frozenset({"prices"}), use="PERWATT_PRICES={file} perwatt chips CHIP"),
    "systems": Kind(
        title="a file of systems", keys=frozenset({"systems", "overheads"}),
        use="PERWATT_SYSTEMS={folder} perwatt chips CHIP",
    ),
    "claim": Kind(title="a claim", keys=frozenset({"claim", "statement"}), use="perwatt claims --claims {file}"),
    "chip": Kind(
        title="a chip sheet", keys=frozenset({"peaks", "bandwidth", "watts", "no_watts", "vendor", "base"}),
        use="perwatt chips --chips {folder}",
    ),
}  # fmt: skip


def expect(document: Document, wanted: str) -> None:
    """Refuse a file of another kind, with the command that reads it; a file of no known kind is left to its reader.

    Raises:
        InputError: with the file and its first line.
    """
    found = _kind(document.value)
    if found is None or found is KINDS[wanted]:
        return
    use = found.use.format(file=document.file, folder=Path(document.file).parent)
    message = f"looks like {found.title}, expected {KINDS[wanted].title}: {use}"
    raise InputError(message, file=document.file, line=document.line(""))


def _kind(value: Any) -> Kind | None:
    keys = value.keys() if isinstance(value, dict) else set()
    return next((kind for kind in KINDS.values() if keys & kind.keys), None)
