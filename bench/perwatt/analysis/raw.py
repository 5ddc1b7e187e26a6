"""Raw samples beside a CSV: those of a row, if their digest is the row's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perwatt.analysis.table import Codes, Floats
from perwatt.results.samples import digest_of, lines_of

Lines = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """Samples of one process.

    Attributes:
        seconds: of an iteration, one for each batch, in the order they were taken; all above zero.
        blocks: number of the interleaved block of each; those of a later round begin with 0 again.
    """

    seconds: Floats
    blocks: Codes


class Samples:
    """Raw samples of rows, read file by file as they are asked for.

    Attributes:
        refused: lines about samples that are there and cannot be used; their rows count by their interval columns.
    """

    def __init__(self) -> None:
        self._files: dict[str, dict[tuple[Any, Any], Lines]] = {}
        self.refused: list[str] = []

    def beside(self, files: Iterable[str]) -> bool:
        """Whether there are raw samples beside any of these CSVs."""
        return any(Path(file).with_name("samples.jsonl").is_file() for file in files)

    def of(self, csv: str, line: int, run_id: str | None, digest: str | None) -> list[Process] | None:
        """Processes of a row; None where there are no samples, or not those the row was made of."""
        if digest is None:
            return None
        path = Path(csv).with_name("samples.jsonl")
        kept = self._file(path)
        if not kept:
            return None
        lines = kept.get((run_id, digest))
        try:
            if lines and digest_of(lines) == digest:
                return processes(lines)
        except (ValueError, TypeError, KeyError):
            pass  # as if they were another row's
        self.refused.append(f"{csv}:{line}: samples_digest: {path.name} has no samples that give {digest}")
        return None

    def _file(self, path: Path) -> dict[tuple[Any, Any], Lines]:
        if str(path) not in self._files:
            self._files[str(path)] = self._read(path) if path.is_file() else {}
        return self._files[str(path)]

    def _read(self, path: Path) -> dict[tuple[Any, Any], Lines]:
        kept: dict[tuple[Any, Any], Lines] = {}
        number = 0
        try:
            for line in lines_of(path):
                number += 1
                message = json.loads(line)
                kept.setdefault((message["run_id"], message["samples_digest"]), []).append(message)
        except (OSError, ValueError, TypeError, KeyError):
            self.refused.append(f"{path}:{number}: found no line of raw samples; none of the file is used")
            return {}
        return kept


def processes(lines: Iterable[dict[str, Any]]) -> list[Process] | None:
    """Samples by process, rounds of one joined; None where a difference of two passes is not above zero."""
    grouped: dict[int, tuple[list[float], list[int]]] = {}
    for line in lines:
        seconds, blocks = grouped.setdefault(line["process"], ([], []))
        minus = line["minus"] or [0.0] * len(line["samples"])
        seconds += [a - b for a, b in zip(line["samples"], minus, strict=True)]
        blocks += line["blocks"]
    made = [
        Process(seconds=np.array(seconds), blocks=np.array(blocks, dtype=np.int64))
        for seconds, blocks in grouped.values()
    ]
    good = all(p.seconds.size and p.seconds.size == p.blocks.size and p.seconds.min() > 0.0 for p in made)
    return made if made and good else None
