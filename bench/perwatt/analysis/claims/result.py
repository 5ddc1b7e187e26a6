"""What is found of a claim: on each level a word, a figure with its interval, the arithmetic, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from perwatt.analysis.claims.claim import Claim
from perwatt.analysis.claims.judging import Span, Word, together

LEVELS = ("datasheet", "published", "measured")


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """What one kind of evidence says.

    Attributes:
        verdict: the word.
        found: the figure, in the form of the claim; None where there is none.
        basis: the arithmetic and the reasons, a line each.
        quality: how good the evidence is; empty where there is none.
        missing: rows or figures that would settle it.
        command: that would produce such rows, a line for each machine; None where nothing that can be run would.
    """

    verdict: Word
    found: Span | None = None
    basis: tuple[str, ...] = ()
    quality: str = ""
    missing: tuple[str, ...] = ()
    command: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the quality among the basis."""
        span = self.found
        return {
            "verdict": self.verdict.value,
            "value": span.value if span else None,
            "lo": span.lo if span else None,
            "hi": span.hi if span else None,
            "basis": "; ".join([*self.basis, *([f"evidence: {self.quality}"] if self.quality else [])]),
            "missing": list(self.missing),
            "command": self.command,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A claim with its levels."""

    claim: Claim
    datasheet: Level
    published: Level
    measured: Level

    @property
    def levels(self) -> dict[str, Level]:
        """The levels by name, in the order of :data:`LEVELS`."""
        return {name: getattr(self, name) for name in LEVELS}

    def as_json(self) -> dict[str, Any]:
        """As ``perwatt claims --json`` prints it."""
        return {"claim": self.claim.claim, "levels": {name: level.as_json() for name, level in self.levels.items()}}


def joined(levels: Sequence[Level]) -> Level:
    """One level of several conditions that all have to hold, with the figure of the first."""
    first = levels[0]
    if len(levels) == 1:
        return first
    return Level(
        verdict=together([level.verdict for level in levels]),
        found=first.found,
        basis=tuple(dict.fromkeys(line for level in levels for line in level.basis)),
        quality="; ".join(dict.fromkeys(level.quality for level in levels if level.quality)),
        missing=tuple(dict.fromkeys(line for level in levels for line in level.missing)),
        command=_one([level.command for level in levels]),
    )


def _one(commands: Sequence[str | None]) -> str | None:
    """The command that does the most: one that measures energy is a longer form of one that does not."""
    known = [command for command in commands if command]
    return max(known, key=len) if known else None


def unnamed(claim: Claim, level: Level) -> Level:
    """A level of a claim that does not name both sides: what stands in for one decides nothing."""
    missing = [side for side in claim.sides if not side.named]
    if not missing:
        return level
    told = tuple(f"the claim does not name it: {side.title} is taken for it" for side in missing)
    word = Word.NOT_DECIDED if level.verdict in (Word.SUPPORTED, Word.CONTRADICTED) else level.verdict
    return replace(level, verdict=word, basis=(*level.basis, *told))
