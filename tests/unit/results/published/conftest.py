"""A small table to damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

TABLE = """\
about: Two rows.
sources:
  paper: {where: "A paper, table 2", date: 2025-06, grade: B}
models:
  small: {like: llama-3-8b, shape: {layers: 2}}
  odd: {uncounted: nobody knows it}
defaults: {chip: h100-sxm, chips: 8, precision: bf16, seq: 1024, source: paper, placement: node}
rows:
  - {model: small, convention: 6n, printed: {tokens_per_s_per_chip: 20000, tflops_per_chip: 178.4}}
  - {model: odd, convention: unknown, printed: {mfu: 40}}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """The table in a file, with texts exchanged."""

    def written(*changes: tuple[str, str]) -> Path:
        text = TABLE
        for old, new in changes:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = tmp_path / "small.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return written
