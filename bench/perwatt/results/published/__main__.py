"""``python -m perwatt.results.published`` writes the CSVs of ``results/published/`` and ``docs/published.md`` anew."""

from __future__ import annotations

import sys

from perwatt.errors import InputError
from perwatt.results import csvfile
from perwatt.results.published import document, shipped, tables
from perwatt.results.published.rows import rows

WRONG_INPUT = 2


def main() -> int:
    """Exit code: 0, or 2 if a table is wrong, of which one line says where."""
    try:
        if not shipped.sources():
            raise InputError("no tables here: the wheel has only the CSVs made from them", file=str(shipped.root()))
        found = [tables.read(path) for path in shipped.sources()]
        for table in found:
            csvfile.write(rows(table), shipped.root() / f"{table.name}.csv")
    except InputError as error:
        print(error, file=sys.stderr)
        return WRONG_INPUT
    page = shipped.root().parents[1] / "docs" / "published.md"
    page.write_text(document.render(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
