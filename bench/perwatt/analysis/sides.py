"""Sides of a comparison: which files belong to each, and their rows."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perwatt.analysis import reading
from perwatt.analysis.table import Rows, joined
from perwatt.errors import InputError
from perwatt.results.validate import UNIQUE

READERS = 2  # files read at once; Arrow lets go of the interpreter's lock while it parses
OTHERS = ("power.csv",)  # tables in a run's folder that are no results


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What a side is made of.

    Attributes:
        name: how the side is called.
        paths: its CSVs.
    """

    name: str
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """Rows that stand for one side of a comparison, for example all runs on one generation of a chip.

    Attributes:
        name: how it is called.
        rows: of all its files that could be read.
        skipped: a line for each file, or row that contradicts another, that was left out, where that was allowed.
        repeated: file and line of rows left out because another file has the same row of the same run.
    """

    name: str
    rows: Rows
    skipped: tuple[str, ...] = ()
    repeated: tuple[tuple[str, int], ...] = ()


def load(*paths: str | Path, name: str | None = None, skip_bad: bool = False) -> Side:
    """Read one side.

    Args:
        paths: CSVs, run folders, folders of them, or globs.
        name: how to call it; else after the first path.
        skip_bad: leave out files that cannot be trusted and say so in :attr:`Side.skipped`, instead of raising.

    Raises:
        InputError: a path leads to no CSV, a file cannot be trusted, or none is left.
    """
    files = list(dict.fromkeys(file for path in paths for file in found(str(path))))
    if not files:
        raise InputError("no path given, expected results")
    return load_source(Source(name=name or _name(str(paths[0])), paths=tuple(files)), skip_bad=skip_bad)


def load_source(source: Source, *, skip_bad: bool = False, tell: Callable[[str], None] | None = None) -> Side:
    """The rows of a source; ``tell`` hears of each file that is left out. Raises as :func:`load`."""
    parts, skipped = [], []
    with ThreadPoolExecutor(READERS) as pool:
        for part in pool.map(_attempt, source.paths):
            if isinstance(part, Rows):
                parts.append(part)
            elif skip_bad:
                skipped.append(str(part))
                if tell:
                    tell(str(part))
            else:
                pool.shutdown(cancel_futures=True)
                raise part
    if not parts:
        raise InputError(f"none of its {len(skipped)} files can be read; the first: {skipped[0]}", field=source.name)
    rows, repeated, other = _once(joined(parts))
    for error in other:
        if not skip_bad:
            raise error
        skipped.append(str(error))
        if tell:
            tell(str(error))
    return Side(name=source.name, rows=rows, skipped=tuple(skipped), repeated=repeated)


def _attempt(path: str) -> Rows | InputError:
    try:
        return reading.read(path)
    except InputError as error:
        return error


def _once(rows: Rows) -> tuple[Rows, tuple[tuple[str, int], ...], list[InputError]]:
    """The rows without copies of a row of the same run, which would count as one run more; and what is no copy.

    A row that says something else of the same run and case was changed, or was written before the run had ended.
    """
    keyed = rows.codes("match_key")[0] >= 0
    codes = rows.combined([*UNIQUE, "case"])
    _, first, group = np.unique(codes, return_index=True, return_inverse=True)
    again = keyed & (first[group] != np.arange(len(rows)))
    if not again.any():
        return rows, (), []
    figures = rows.combined(["status", "samples_digest", "time_s"])
    other = again & (figures != figures[first[group]])
    return (
        rows.where(~again),
        tuple(rows.place(int(row)) for row in np.flatnonzero(again & ~other)),
        [_other(rows, int(row), int(first[group[row]])) for row in np.flatnonzero(other)],
    )


def _other(rows: Rows, row: int, first: int) -> InputError:
    (file, line), (known, at) = rows.place(row), rows.place(first)
    same = f"another result of the row in {known}:{at} (same run, case and implementation)"
    return InputError(f"found {same}, expected one of the two", file=file, line=line)


def sources(arguments: Sequence[str]) -> list[Source]:
    """Sides as they are given on a command line: each argument is one, ``NAME=PATH,PATH,...`` or a path.

    Raises:
        InputError: a path leads to no CSV, or two sides are given the same name.
    """
    made, named = [], set()
    for argument in arguments:
        name, paths = _split(argument)
        if name in named:
            raise InputError(f"two sides are called {name!r}, expected one name each")
        if name:
            named.add(name)
        files = dict.fromkeys(file for path in paths for file in found(path))
        made.append(Source(name=name or _name(paths[0]), paths=tuple(files)))
    return _distinct(made)


def _split(argument: str) -> tuple[str | None, list[str]]:
    name, equals, rest = argument.partition("=")
    if not equals or not name or "/" in name or Path(argument).exists():
        return None, [argument]
    paths = [path for path in rest.split(",") if path]
    if not paths:
        raise InputError(f"found {argument!r}, expected NAME=PATH or NAME=PATH,PATH")
    return name, paths


def found(path: str) -> list[str]:
    """CSVs that a path, folder or glob stands for, in order.

    Raises:
        InputError: there is none.
    """
    if Path(path).is_dir():
        files = sorted(map(str, _of_folder(Path(path))))
        if not files:
            raise InputError("found no CSV of results in it", file=path)
        return files
    if Path(path).exists() or not glob.has_magic(path):
        if not Path(path).exists():
            raise InputError("no such file", file=path)
        return [path]
    matches = [match for match in sorted(glob.glob(path, recursive=True)) if Path(match).name not in OTHERS]
    files = [file for match in matches if match.endswith(".csv") or Path(match).is_dir() for file in found(match)]
    if not files:
        raise InputError("no CSV matches", file=path)
    return files


def _of_folder(folder: Path) -> Iterable[Path]:
    """A run's results; of another folder its CSVs and those of the folders in it."""
    if (folder / "results.csv").is_file():
        return [folder / "results.csv"]
    own = [path for path in folder.glob("*.csv") if path.name not in OTHERS]
    return own + [file for inner in folder.iterdir() if inner.is_dir() for file in _of_folder(inner)]


def _name(path: str) -> str:
    """A short name: of the file, or of the folder where a run's file says nothing."""
    pure = Path(path)
    if pure.stem == "results" or not pure.name:
        pure = pure.absolute().parent
    return pure.stem if pure.suffix == ".csv" else pure.name


def _distinct(made: list[Source]) -> list[Source]:
    """The sources with a number behind names that are there twice."""
    names: dict[str, int] = {}
    result = []
    for source in made:
        names[source.name] = names.get(source.name, 0) + 1
        again = f" ({names[source.name]})" if names[source.name] > 1 else ""
        result.append(Source(name=source.name + again, paths=source.paths))
    return result
