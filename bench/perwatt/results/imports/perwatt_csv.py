"""Results of an older perwatt: the same rows in the columns of this version. Keys and samples stay valid."""

from __future__ import annotations

from dataclasses import replace

from perwatt.errors import InputError
from perwatt.results import csvfile, validate
from perwatt.results.imports.base import Format, Given, Imported
from perwatt.results.schema import SCHEMA_VERSION

NAME = "perwatt"


def read(given: Given) -> Imported:
    """Rows of any schema version that can be read."""
    if problem := validate.first_problem(given.path):
        raise InputError(problem.what, file=problem.file, line=problem.line, field=problem.column)
    rows = csvfile.read(given.path)
    version = rows[0].schema_version
    same = "already of" if version == SCHEMA_VERSION else f"from schema {version} to"
    return Imported(
        rows=tuple(replace(row, schema_version=SCHEMA_VERSION) for row in rows), notes=(f"{same} {SCHEMA_VERSION}",)
    )


FORMAT = Format(
    name=NAME,
    doc="results CSV of an older perwatt",
    detects=lambda text: "schema_version," in text.partition("\n")[0],
    read=read,
)
