"""Fixtures of tests of kernels."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

import pytest

from support.interpreted import interpreted


@pytest.fixture(scope="module")
def triton_interpreter() -> Iterator[None]:
    """Kernels in Triton run in its interpreter while tests of a file last."""
    versions = [tuple(map(int, metadata.version(name).split(".")[:2])) for name in ("triton", "numpy")]
    if versions[0] < (3, 7) and versions[1] >= (2, 4):
        pytest.skip("the interpreter of Triton before 3.7 takes NumPy before 2.4 only: range() of a tensor fails")
    with interpreted():
        yield
