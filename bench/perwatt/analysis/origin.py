"""Runs behind rows: those that rows name, and those that a pooled result was made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from perwatt.analysis.table import Rows

POOLED = "pool-"  # how names of pooled runs begin


def runs_of(rows: Rows) -> frozenset[str]:
    """Names of all runs that samples of these rows come from."""
    return frozenset([*rows.codes("run_id")[1], *_members(rows)])


def twice(rows: Rows) -> list[str]:
    """Names of runs that are there by themselves and in a pooled result."""
    return sorted(frozenset(rows.codes("run_id")[1]).intersection(_members(rows)))


def _members(rows: Rows) -> Iterator[str]:
    """Names of runs that pooled results beside the files name; one that cannot be read names none."""
    if not any(run.startswith(POOLED) for run in rows.codes("run_id")[1]):
        return
    for path in {Path(file).with_name("pool.json") for file in rows.files}:
        try:
            yield from (run for member in json.loads(path.read_bytes())["members"] for run in member["runs"])
        except (OSError, ValueError, TypeError, KeyError):
            continue
