"""Rows to test with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perwatt.results.schema import Row
from support.rows import make


@pytest.fixture
def make_row() -> Callable[..., Row]:
    return make
