"""Some cases of a suite, picked by name (``perwatt run --only``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from perwatt.errors import InputError, expected
from perwatt.spec.suite import Suite


def picked(suite: Suite, patterns: Sequence[str]) -> Suite:
    """The suite with those cases alone whose names match a pattern, in which ``*`` stands for anything; all for none.

    Raises:
        InputError: a pattern that no case matches; the message has the nearest name.
    """
    if not patterns:
        return suite
    names = [case.name for case in suite.cases]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(expected(pattern, names, "a case"), field="--only")
    chosen = (case for case in suite.cases if any(fnmatchcase(case.name, pattern) for pattern in patterns))
    return replace(suite, cases=tuple(chosen))
