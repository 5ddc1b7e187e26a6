"""Raw samples: the lines of ``samples.jsonl``, and the digest by which a row recognizes its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from perwatt.runner.ledger import Ledger
from perwatt.runner.part import Part
from perwatt.spec import work

MEASURED = ("case", "impl", "process", "round", "iters_per_sample", "samples", "minus", "twin", "blocks")
RANKS = "ranks"  # the seconds of each rank, where several worked; a line of one process has none
LONGEST = 2**26  # bytes of a line; that of a million samples has half of it


def samples_digest(parts: Sequence[Part]) -> str | None:
    """First 16 hex digits of the SHA-256 of the samples of a row, or None when it has none.

    Over the lines of ``samples.jsonl`` that belong to the row, in their order, cut down to :data:`MEASURED`, and
    :data:`RANKS` where there are several, and written as RFC 8785 canonical JSON with a line feed behind each.
    """
    lines = [measured(part.message()) for part in parts if part.samples]
    return digest_of(lines) if lines else None


def digest_of(lines: Sequence[Mapping[str, Any]]) -> str:
    """The same of lines that were read back."""
    text = "".join(work.canonical(measured(line)) + "\n" for line in lines)
    return hashlib.sha256(text.encode()).hexdigest()[: work.KEY_DIGITS]


def lines(ledger: Ledger) -> Iterator[str]:
    """Lines of ``samples.jsonl``: one for each part, with the digest of the row that it belongs to."""
    for parts in ledger.parts.values():
        head = {"samples_digest": samples_digest(parts), "run_id": ledger.run["run_id"]}
        for part in parts:
            if part.samples:
                yield json.dumps(head | measured(part.message()), separators=(",", ":")) + "\n"


def lines_of(path: Path) -> Iterator[bytes]:
    """Lines of a file as they stand; one that is longer than any of raw samples is cut, so that it is none."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST):
            yield line


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a ``samples.jsonl`` as they were written."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def measured(message: Mapping[str, Any]) -> dict[str, Any]:
    """What of a part, or of a line, are raw samples."""
    kept = {name: message[name] for name in MEASURED}
    return kept | ({RANKS: message[RANKS]} if message.get(RANKS) else {})
