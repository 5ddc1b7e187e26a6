"""What was chosen, and by which figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A choice.

    Attributes:
        chosen: name of the fastest candidate.
        seconds: of one call, by candidate: the median of some rounds in which all took turns.
        failed: why the others have none.
        when: date of the measurement, UTC.
        origin: ``measured`` just now, ``kept`` on this machine, or ``shipped``.
    """

    chosen: str
    seconds: Mapping[str, float]
    failed: Mapping[str, str] = field(default_factory=dict)
    when: str = ""
    origin: str = "measured"

    def covers(self, candidates: Iterable[str]) -> bool:
        """Whether it is about all of these candidates, and what it chose is one of them."""
        names = set(candidates)
        return self.chosen in names and names <= self.seconds.keys() | self.failed.keys()

    def message(self) -> dict[str, Any]:
        """JSON form, without the origin, which is where it was found."""
        return {
            "chosen": self.chosen, "seconds": dict(self.seconds), "failed": dict(self.failed), "when": self.when,
        }  # fmt: skip

    @classmethod
    def read(cls, message: Mapping[str, Any], origin: str) -> Answer:
        """The answer of a JSON form.

        Raises:
            ValueError: it is none.
        """
        try:
            seconds = {str(name): float(value) for name, value in message["seconds"].items()}
            failed = {str(name): str(why) for name, why in message.get("failed", {}).items()}
            return cls(chosen=str(message["chosen"]), seconds=seconds, failed=failed,
                       when=str(message.get("when", "")), origin=origin)  # fmt: skip
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"found no answer ({type(error).__name__}: {error})") from error
