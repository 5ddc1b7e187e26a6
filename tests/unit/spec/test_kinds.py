"""Files of one kind given where another is expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from perwatt import configs
from perwatt.errors import InputError
from perwatt.spec import kinds, suite, yamlfile

SHIPPED = {
    "suite": "suites/*.yaml", "chip": "chips/*.yaml", "systems": "systems/*.yaml", "prices": "prices.yaml",
}  # fmt: skip
FILES = [(kind, path) for kind, pattern in SHIPPED.items() for path in sorted(configs.root().glob(pattern))]


@pytest.mark.parametrize(("kind", "path"), FILES, ids=[f"{kind}-{path.stem}" for kind, path in FILES])
def test_every_shipped_file_is_told_from_all_other_kinds(kind: str, path: Path):
    document = yamlfile.load(path)
    kinds.expect(document, kind)
    for other in kinds.KINDS.keys() - {kind}:
        with pytest.raises(
            InputError, match=f"looks like {kinds.KINDS[kind].title}, expected {kinds.KINDS[other].title}"
        ):
            kinds.expect(document, other)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: own\nbase: h100-sxm\n", "looks like a chip sheet, expected a suite: perwatt chips --chips {folder}"),
        ("prices: []\n", "looks like a price list, expected a suite: PERWATT_PRICES={file} perwatt chips CHIP"),
        (
            "overheads: []\n",
            "looks like a file of systems, expected a suite: PERWATT_SYSTEMS={folder} perwatt chips CHIP",
        ),
    ],
)
def test_a_suite_that_is_something_else_is_one_line_with_what_reads_it(tmp_path: Path, text: str, line: str):
    (file := tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        suite.load(str(file))
    assert str(caught.value) == f"{file}:1: " + line.format(file=file, folder=tmp_path)


@pytest.mark.parametrize("text", ["suit: a\ncases: []\n", "sute: a\n", "- suite\n", "name: a\n"])
def test_a_bad_suite_is_still_judged_as_a_suite(tmp_path: Path, text: str):
    (file := tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        suite.load(str(file))
    assert "looks like" not in str(caught.value)
