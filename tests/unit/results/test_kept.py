"""Measured rows that a checkout keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from perwatt.results import kept
from perwatt.results.published import shipped


def test_the_folder_counts_once_it_has_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shipped, "root", lambda: tmp_path / "published")
    assert kept.folders() == []
    run = tmp_path / "measured" / "trn2"
    run.mkdir(parents=True)
    assert kept.folders() == []
    (run / "results.csv").write_text("")
    assert kept.folders() == [str(tmp_path / "measured")]
