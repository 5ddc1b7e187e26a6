"""Fixtures of tests of kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.interpreted import interpreted


@pytest.fixture(scope="module")
def triton_interpreter() -> Iterator[None]:
    """Kernels in Triton run in its interpreter while tests of a file last."""
    with interpreted():
        yield
