"""Where answers are: a file for each on this machine, and files of many in the package.

On this machine: ``choices`` in ``$PERWATT_CACHE``, else in ``$XDG_CACHE_HOME/perwatt``, else in ``~/.cache/perwatt``.
Files are written aside and renamed, so processes that measure the same at once do not spoil each other's. What cannot
be read counts as not there, with a warning, and is measured again.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from perwatt_kernels.choices.answer import Answer
from perwatt_kernels.choices.question import Question

SHIPPED = Path(__file__).parent / "shipped"
DEATHS = 2  # a user who kills a run is no fault of what was tried just then; the second time it is
DIED = "the process ended while it was tried"


def folder() -> Path:
    """Where this machine's answers are."""
    if own := os.environ.get("PERWATT_CACHE"):
        return Path(own) / "choices"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perwatt" / "choices"


def look(question: Question) -> Answer | None:
    """The answer to a question, this machine's before a shipped one."""
    found = _read(_path(question))
    if found is not None and found.get("question") == question.message():
        try:
            return Answer.read(found["answer"], "kept")
        except (KeyError, ValueError) as error:
            warnings.warn(f"{_path(question)}: {error}; it is measured again", stacklevel=2)
    return shipped().get(question.text)


def keep(question: Question, answer: Answer) -> None:
    """Write an answer down for later processes. Where nothing can be written, this process knows it alone."""
    try:
        _write(_path(question), {"question": question.message(), "answer": answer.message()})
    except OSError as error:
        warnings.warn(f"the choice cannot be kept: {error}", stacklevel=2)


def drop(question: Question) -> None:
    """Forget this machine's answer to a question, and whatever died in finding it."""
    path = _path(question)
    for one in (path, *path.parent.glob(f"{path.stem}.*.trying")):
        one.unlink(missing_ok=True)


def entries() -> Iterator[tuple[Question, Answer]]:
    """All that this machine has kept, then all that is shipped and not kept."""
    seen = set()
    for path in sorted(folder().glob("*/*.json")):
        if entry := _entry(_read(path), "kept"):
            seen.add(entry[0].text)
            yield entry
    for text, answer in shipped().items():
        if text not in seen:
            yield Question(**json.loads(text)), answer


@cache
def shipped() -> dict[str, Answer]:
    """Answers that come with the package, by the question's text."""
    found = {}
    for path in sorted(SHIPPED.glob("*.json")):
        for message in json.loads(path.read_text("utf-8")):
            question = Question(**message["question"])
            found[question.text] = Answer.read(message["answer"], "shipped")
    return found


@contextmanager
def trying(question: Question, candidate: str) -> Iterator[None]:
    """Around the first calls of a candidate: where the process dies in them, a mark is left behind.

    A candidate may choose among others itself. Then it is one of those that dies, so marks of what is around a trial
    are out of the way as long as that lasts.
    """
    mark, around = _mark(question, candidate), _trials[-1] if _trials else None
    if around:
        around.leave()
    _trials.append(trial := _Trial(mark, _deaths(mark)))
    trial.enter()
    try:
        yield
    finally:  # an exception is no death, unless it is condemned for it
        _trials.pop()
        trial.leave()
        if around:
            around.enter()


def condemn(question: Question, candidate: str, reason: str) -> None:
    """Pass a candidate over from now on: it left a device, or a process, in which nothing works.

    Args:
        question: that it was tried for.
        candidate: its name.
        reason: in one line.
    """
    mark = _mark(question, candidate)
    for trial in _trials:
        trial.over = trial.over or trial.mark == mark
    with suppress(OSError):
        _write(mark, {"candidate": candidate, "process": None, "deaths": DEATHS, "reason": reason})


def deadly(question: Question, candidate: str) -> str | None:
    """Why a candidate is not tried any more: processes died in its first calls, so often that it was no accident."""
    mark = _mark(question, candidate)
    if _deaths(mark) < DEATHS:
        return None
    return str((_read(mark) or {}).get("reason") or DIED)


def pardon(about: str | None = None) -> None:
    """Have candidates tried again that were passed over because processes died of them, or lost their device.

    Args:
        about: only those of this operation or kernel.
    """
    for mark in folder().glob(f"{_slug(about) if about else '*'}/*.trying"):
        mark.unlink(missing_ok=True)


def deaths() -> int:
    """How often a process ended in a trial on this machine, as far as candidates are not passed over for longer."""
    return sum(min(_deaths(mark), DEATHS) for mark in folder().glob("*/*.trying"))


@dataclass(slots=True)
class _Trial:
    """A candidate's first calls.

    Attributes:
        mark: file that says so.
        deaths: in earlier ones.
        over: whether the mark is to stay as it is.
    """

    mark: Path
    deaths: int
    over: bool = False

    def enter(self) -> None:
        """Should the process end, it is by this."""
        self._note(self.deaths + 1, os.getpid())

    def leave(self) -> None:
        """Whatever happens from now on is not."""
        self._note(self.deaths, None)

    def _note(self, deaths: int, process: int | None) -> None:
        if self.over:
            return
        with suppress(OSError):  # then nothing is remembered, and nothing else is lost
            if deaths:
                _write(self.mark, {"process": process, "deaths": deaths})
            else:
                self.mark.unlink()


_trials: list[_Trial] = []


def _deaths(mark: Path) -> int:
    """Processes that died at a mark; one that lives is still trying."""
    found = _read(mark)
    if found is None:
        return 0
    try:
        process = found["process"]
        return int(found["deaths"]) - int(process is not None and psutil.pid_exists(int(process)))
    except (KeyError, TypeError, ValueError):
        return 0


def _mark(question: Question, candidate: str) -> Path:
    path = _path(question)
    return path.with_name(f"{path.stem}.{_slug(candidate)}.trying")


def _path(question: Question) -> Path:
    return folder() / _slug(question.about) / f"{question.key}.json"


def _slug(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text)


def _entry(found: dict[str, Any] | None, origin: str) -> tuple[Question, Answer] | None:
    if found is None:
        return None
    try:
        return Question(**found["question"]), Answer.read(found["answer"], origin)
    except (KeyError, TypeError, ValueError):
        return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        warnings.warn(f"{path}: {' '.join(str(error).split())}; it is measured again", stacklevel=3)
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, message: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(message, file, sort_keys=True, indent=1)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
