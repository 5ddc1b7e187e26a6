"""What is sent back: results, environment, logs and the compilers' messages, without names of hosts, people, folders.

Results are laid down one by one as they come, so that whatever ends a self-test leaves those it had. Programs and
dumps stay where they are; what is taken is text, each file up to a megabyte of its end.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import platform
import re
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import perwatt
from perwatt.selftest.session import COMPILERS, Result

TEXTS = ("*.txt", "*.log", "*.json")
RESULTS = "results.jsonl"
MOST_BYTES = 2**20


def add(folder: Path, result: Result) -> None:
    """Append a result to ``results.jsonl``."""
    line = json.dumps(result.message(), sort_keys=True)
    with (folder / RESULTS).open("a", encoding="utf-8") as opened:
        opened.write(f"{line}\n")


def write(folder: Path, environment: dict[str, Any]) -> Path:
    """Lay down ``environment.json``, and pack it with the results that were added and the logs.

    Args:
        folder: of the self-test; holds ``log.txt`` and ``compilers``.
        environment: record of the machine.

    Returns:
        The archive, beside the folder.
    """
    (folder / RESULTS).touch()
    (folder / "environment.json").write_text(json.dumps(environment, indent=2, sort_keys=True), encoding="utf-8")
    hidden = _hidden(folder)
    for file in [folder / "log.txt", folder / RESULTS, *_texts(folder / COMPILERS)]:
        if file.is_file():
            file.write_text(scrubbed(_end_of(file), hidden), encoding="utf-8")
    archive = folder.with_name(f"{folder.name}.tar.gz")
    with tarfile.open(archive, "w:gz") as packed:
        for file in [*sorted(folder.glob("*.*")), *_texts(folder / COMPILERS)]:
            packed.add(file, Path(folder.name) / file.relative_to(folder), filter=_nobodys)
    return archive


def scrubbed(text: str, hidden: Iterable[tuple[str, str]]) -> str:
    """A text with what tells of host, person or folders exchanged."""
    for found, shown in hidden:
        before = "" if found.startswith("/") else r"(?<!\w)"  # a path may follow an option's letter
        text = re.sub(rf"{before}{re.escape(found)}(?!\w)", shown, text)
    return text


def _hidden(folder: Path) -> list[tuple[str, str]]:
    """What is exchanged for what, long ones first, as one may be a part of another."""
    package = Path(perwatt.__file__).parent
    places = [
        (str(folder.absolute()), "<selftest>"), (str(package), "<perwatt>"), (str(package.parent), "<source>"),
        (sys.prefix, "<python>"), (sys.base_prefix, "<base>"), (str(Path.home()), "<home>"),
        (platform.node(), "<host>"),
    ]  # fmt: skip
    with contextlib.suppress(OSError, KeyError):  # a container without a name for its user
        places.append((getpass.getuser(), "<user>"))
    return sorted(((a, b) for a, b in places if a.strip("/")), key=lambda one: -len(one[0]))


def _texts(folder: Path) -> list[Path]:
    return sorted({path for kind in TEXTS for path in folder.rglob(kind) if path.is_file()})


def _end_of(file: Path) -> str:
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - MOST_BYTES))
        return opened.read().decode(errors="replace")


def _nobodys(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info
