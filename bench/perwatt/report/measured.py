"""Keeping a run: its rows under ``results/measured/``, and what they say in the README.

``python -m perwatt.report.measured RUN`` copies results, environment and suite of a run's folder to
``results/measured/CHIP-SUITE/``. Raw samples stay in the run's folder; each row has their digest. The best rows of the
first cases, and the ceilings beside published ones, are written between two marks of the README.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from perwatt.errors import InputError
from perwatt.report import format as numbers
from perwatt.report.comparison_formats import escaped
from perwatt.results import csvfile, validate
from perwatt.results.published import shipped
from perwatt.results.schema import Row, Status
from perwatt.runner.folder import Folder, replace, writing

INTO, README = Path("results", "measured"), Path("README.md")
BEGIN, END = "<!-- measured: written by make gpu -->", "<!-- end of measured -->"
SHOWN = 40  # cases in the README; suites have what matters most first
COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("case", lambda row: row.case),
    ("impl", lambda row: row.impl or ""),
    ("path", lambda row: row.path or ""),
    ("time", lambda row: numbers.seconds(row.time_s)),
    ("95 %", lambda row: numbers.interval(row.time_s, row.time_s_lo, row.time_s_hi)),
    ("TFLOP/s", lambda row: numbers.number(row.tflops)),
    ("MFU", lambda row: f"{row.mfu:.1%}" if row.mfu else ""),
    ("GB/s", lambda row: numbers.number(row.gbps) if row.flops is None else ""),
    ("tokens/s", lambda row: numbers.number(row.tokens_per_s)),
    ("SM clock", lambda row: f"{row.sm_clock_mhz:.0f} MHz" if row.sm_clock_mhz else ""),
    ("limiter", lambda row: row.limiter or ""),
)


def keep(run: Path, into: Path = INTO) -> Path:
    """Copy what a run measured to where it stays. Gives the folder.

    Raises:
        InputError: the run cannot be trusted, or the folder cannot be written.
    """
    source = Folder(run)
    if problem := next(iter(validate.check(source.results)), None):
        raise InputError(problem.what, file=problem.file, line=problem.line, field=problem.column)
    first = csvfile.read(source.results)[0]
    target = Folder(into / re.sub(r"[^a-z0-9.]+", "-", f"{first.chip}-{first.suite}".lower()).strip("-"))
    with writing(target.path):
        target.path.mkdir(parents=True, exist_ok=True)
        for old, new in zip(_files(source), _files(target), strict=True):
            shutil.copyfile(old, new)
    return target.path


def _files(folder: Folder) -> tuple[Path, ...]:
    return folder.results, folder.environment, folder.suite


def section(rows: Sequence[Row], where: str, published: Iterable[Row]) -> str:
    """What the README says of a run.

    Args:
        rows: of the run.
        where: the folder that they are kept in.
        published: rows of others, of which the fastest products count.
    """
    fine = [row for row in rows if row.status == Status.OK]
    first = rows[0]
    head = (
        f"Suite `{first.suite}` on `{first.chip}`, {(first.started_at or '')[:10]}, torch {first.torch}, "
        f"driver {first.driver}: {len(fine)} of {len(rows)} rows ok, all of them in `{where}` with environment and "
        "digests of samples. The fastest implementation of each of the first cases:"
    )
    best: dict[str, Row] = {}
    for row in fine:
        if row.case not in best or (row.time_s or 0.0) < (best[row.case].time_s or 0.0):
            best[row.case] = row
    lines = [_line(name for name, _ in COLUMNS), _line("---" for _ in COLUMNS)]
    lines += [_line(of(row) for _, of in COLUMNS) for row in list(best.values())[:SHOWN]]
    found = ceilings(fine, published)
    return "\n".join([head, "", *lines, *(["", "Ceilings:", ""] if found else []), *(f"- {line}" for line in found)])


def ceilings(rows: Iterable[Row], published: Iterable[Row]) -> list[str]:
    """The fastest product of each format, beside that which is published of the chip; why, where it is slower."""
    others = {(row.chip, row.precision): row for row in published if row.workload == "gemm" and row.tflops_per_chip}
    best = {(row.precision or "").partition("_")[0]: row for row in rows if _is_ceiling(row)}
    return [_ceiling(name, row, others.get((row.chip, name))) for name, row in best.items()]


def _is_ceiling(row: Row) -> bool:
    return row.workload == "gemm" and row.tflops is not None and row.tflops == row.ceiling_tflops


def _ceiling(name: str, row: Row, other: Row | None) -> str:
    text = f"{name}: {numbers.number(row.tflops)} TFLOP/s ({row.case})"
    if other is None or row.tflops is None or other.tflops_per_chip is None:
        return f"{text}; none is published"
    text += f", published {numbers.number(other.tflops_per_chip)} ({other.source_date})"
    if row.tflops >= other.tflops_per_chip:
        return text
    clock = "unknown" if row.sm_clock_mhz is None else f"{row.sm_clock_mhz:.0f} MHz"
    limit = "unknown" if row.power_limit_w is None else f"{row.power_limit_w:g} W"
    share = row.tflops / other.tflops_per_chip
    return f"{text}: {share:.1%} of that, at a clock of {clock}, limiter {row.limiter}, limit {limit}"


def write(readme: Path, text: str) -> None:
    """Put a text between the marks of a file.

    Raises:
        InputError: it has no marks, or cannot be read or written.
    """
    try:
        before = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=str(readme)) from None
    head, begin, rest = before.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise InputError(f"found no {BEGIN} with {END} behind it", file=str(readme))
    replace(readme, [f"{head}{begin}\n\n{text}\n\n{end}{tail}"])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(escaped(cell) for cell in cells) + " |"


def _published() -> list[Row]:
    return [row for name in shipped.names() for row in csvfile.read(shipped.find(name))]


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m perwatt.report.measured", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--into", type=Path, default=INTO, help="where rows are kept")
    parser.add_argument("--readme", type=Path, default=README, help="file with the marks")
    options = parser.parse_args()
    try:
        folder = keep(options.run, options.into)
        write(options.readme, section(csvfile.read(folder / "results.csv"), folder.as_posix(), _published()))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"kept in {folder}, shown in {options.readme}")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
