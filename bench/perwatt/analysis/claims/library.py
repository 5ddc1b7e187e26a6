"""Claims from files: those that are shipped, the user's, and one file or folder that a command names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from perwatt import configs
from perwatt.analysis.claims.claim import Cases, Claim, Printed
from perwatt.errors import InputError, expected
from perwatt.hardware.figure import Source
from perwatt.hardware.library import bibliography, place, user_folder
from perwatt.hardware.reader import build, shape
from perwatt.spec import kinds, yamlfile
from perwatt.spec.yamlfile import of_kind

KIND = "claims"


def read(file: str | Path) -> Claim:
    """The claim of a file.

    Raises:
        InputError: with the line of what is wrong.
    """
    document = yamlfile.load(file)
    kinds.expect(document, "claim")
    with document.placed():
        claim = build(Claim, document.value)
        if claim.claim != Path(file).stem:
            message = f"found {claim.claim!r}, expected {Path(file).stem!r} as the file is called"
            raise InputError(message, field="claim")
        known = {**bibliography(), **said(), **claim.sources}
        if claim.source not in known:
            raise InputError(expected(claim.source, known, "a key of the bibliography"), field="source")
        if claim.tested_by:
            _check(claim.tested_by)
        place(claim, dict.fromkeys(shape(Claim), document), known)
    return replace(claim, file=str(file))


def _check(cases: Cases) -> None:
    """Refuse a suite that is not there, or cases that it does not have."""
    from perwatt.spec import picking, suite  # pydantic and all workloads come with it

    try:
        picking.picked(suite.load(cases.suite), cases.only)
    except InputError as error:
        raise InputError(error.message, field="tested_by") from None


@cache
def said() -> Mapping[str, Source]:
    """Where claims were printed, by key: the bibliography of claims."""
    document = yamlfile.load(configs.root() / "claim-sources.yaml")
    with document.placed():
        return {key: build(Printed, entry, key) for key, entry in of_kind("", document.value, dict).items()}


def load(given: str | Path | None = None, tell: Callable[[InputError], None] | None = None) -> list[Claim]:
    """All claims, the headline first, then by row and name.

    Args:
        given: a file or a folder of the user's, before the usual folder and the shipped one; a claim of the same name
            replaces the others.
        tell: hears of each file that is wrong, which is then left out; without it the first mistake is raised.

    Raises:
        InputError: what is given is not there, or a file is wrong and nobody wants to hear of it.
    """
    claims: dict[str, Claim] = {}
    for file in _files(given):
        if file.stem in claims:
            continue
        try:
            claims[file.stem] = read(file)
        except InputError as error:
            if tell is None:
                raise
            tell(error)
    return sorted(claims.values(), key=lambda claim: (not claim.headline, *_natural(claim.row), claim.claim))


def _files(given: str | Path | None) -> Iterator[Path]:
    if given is not None:
        path = Path(given)
        if not path.exists():
            raise InputError("no such file or folder", file=str(given), field="--claims")
        own = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        if not own:
            raise InputError("found no *.yaml in it, expected claims", file=str(given), field="--claims")
        yield from own
    own_folder = user_folder(KIND)
    if os.environ.get(f"PERWATT_{KIND.upper()}") and not own_folder.is_dir():
        message = f"found {str(own_folder)!r}, expected a folder with claims"
        raise InputError(message, field=f"PERWATT_{KIND.upper()}")
    for folder in (own_folder, configs.root() / KIND):
        yield from sorted(folder.glob("*.yaml"))


def _natural(row: str) -> tuple[bool, str, int]:
    """Rows as people count them, Trainium's first: T2 before T10; claims without a row last."""
    found = re.fullmatch(r"([A-Z])(\d+)", row)
    letters = "TNGA"
    if not found:
        return True, row, 0
    return False, f"{letters.find(found[1]) % 26:02d}", int(found[2])
