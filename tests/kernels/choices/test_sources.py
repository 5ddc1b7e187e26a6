"""Answers hold for perwatt's own kernels as they are: a change of their sources makes another question."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perwatt_kernels.choices import sources

FILES = {
    "attention/__init__.py": "",
    "attention/triton_forward.py": "a",
    "attention/gluon_forward.py": "b",
    "linear/triton_impl.py": "from perwatt_kernels.matmul import triton_impl",
    "matmul/triton_impl.py": "from perwatt_kernels.dtypes import dtype",
    "dtypes.py": "d",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sources, "PACKAGE", tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    _forget()
    yield tmp_path
    _forget()


def _forget() -> None:
    sources.of_operation.cache_clear()
    sources.of_kernel.cache_clear()


def _all() -> dict[str, dict[str, str]]:
    _forget()  # as a later process, with other files, does
    kernels = ("attention/triton forward", "attention/gluon forward", "matmul/triton")
    found = {about: dict(sources.of_kernel(about)) for about in kernels}
    return found | {name: dict(sources.of_operation(name)) for name in ("attention", "linear", "matmul")}


@pytest.mark.parametrize(
    ("changed", "affected"),
    [
        ("attention/triton_forward.py", {"attention", "attention/triton forward"}),
        ("attention/triton_more.py", {"attention", "attention/triton forward"}),
        ("attention/__init__.py", {"attention"}),
        ("matmul/triton_impl.py", {"matmul", "linear", "matmul/triton"}),  # linear takes modules from it
        ("linear/triton_impl.py", {"linear"}),
        ("matmul/notes.txt", set()),
    ],
)
def test_a_change_is_another_version_of_what_it_belongs_to(package: Path, changed: str, affected: set[str]) -> None:
    before = _all()
    assert all(found.keys() == {"perwatt_kernels"} for found in before.values())
    assert _all() == before
    text = (package / changed).read_text() if (package / changed).exists() else ""
    (package / changed).write_text(f"{text}\nmore = 1\n")
    after = _all()
    assert {name for name in before if before[name] != after[name]} == affected


def test_a_kernel_of_another_distribution_has_none(package: Path) -> None:
    assert (sources.of_kernel("op/triton"), sources.of_operation("op")) == ({}, {})
