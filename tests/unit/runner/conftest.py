"""The faulty workload as a plug-in of this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perwatt import plugins

FAKES = Path(__file__).resolve().parents[2] / "fakes"


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workload ``faulty`` can be named in cases."""
    monkeypatch.syspath_prepend(FAKES / "faulty")
    plugins.find.cache_clear()
    yield
    plugins.find.cache_clear()
    sys.modules.pop("faulty", None)
