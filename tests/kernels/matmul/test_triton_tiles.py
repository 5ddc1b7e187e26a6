"""Tiles of the product in Triton: what is proposed for which device, format and shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from perwatt_kernels.matmul import triton_tiles
from perwatt_kernels.matmul.triton_tiles import Chip, Work

H100 = Chip(capability=(9, 0), processors=130, shared=227 * 2**10)


def work(m: int, n: int, k: int, **changes: Any) -> Work:
    fields = {"batch": 1, "kind": "half", "size": 2, "out": 2, "described": True}
    return Work(m=m, n=n, k=k, **{**fields, **changes})


def test_tiles_fit_the_device_and_the_first_is_the_likely_one() -> None:
    found = triton_tiles.candidates(work(8192, 8192, 8192), H100)
    assert 4 <= len(found) <= triton_tiles.MOST
    assert len({tile.name for tile in found}) == len(found)
    assert (found[0].m * found[0].n, found[0].variant, found[0].splits) == (128 * 256, "descriptors", 1)
    assert all(tile.shared(work(8192, 8192, 8192)) <= H100.shared for tile in found)
    small = triton_tiles.candidates(work(8192, 8192, 8192), replace(H100, capability=(8, 6), shared=99 * 2**10))
    assert small
    assert all(tile.variant == "pointers" and tile.shared(work(1, 1, 1)) <= 99 * 2**10 for tile in small)


@pytest.mark.parametrize("described", [False, True])
def test_few_are_tried_for_a_product_of_microseconds(described: bool) -> None:
    """Each compiles for longer than they could ever save; few tokens by a large matrix are none of these."""
    for shape in ((128, 128, 128), (512, 1024, 1024), (1, 64, 32), (5, 4, 0)):
        found = triton_tiles.candidates(work(*shape, described=described), H100)
        assert 1 <= len(found) <= triton_tiles.FEW
        assert any(not tile.persistent for tile in found)
    for shape in ((1, 28672, 4096), (4096, 4096, 4096)):
        assert len(triton_tiles.candidates(work(*shape, described=described), H100)) > triton_tiles.FEW


def test_the_depth_is_split_where_tiles_are_too_few() -> None:
    deep = triton_tiles.candidates(work(16, 4096, 16384), H100)
    assert deep[0].splits > 1
    assert deep[0].m == 16
    assert not any(tile.splits > 1 for tile in triton_tiles.candidates(work(16, 4096, 64), H100))


def test_warps_are_specialized_on_blackwell_alone() -> None:
    for capability, expected in (((9, 0), False), ((10, 0), True), ((12, 0), False)):
        found = triton_tiles.candidates(work(8192, 8192, 8192), replace(H100, capability=capability))
        assert any(tile.variant == "specialized" for tile in found) is expected


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (9, 0), (10, 0), (12, 0)])
@pytest.mark.parametrize(("kind", "size"), [("half", 2), ("tf32", 4), ("fp32", 4), ("fp8", 1), ("fp8_exact", 1)])
@pytest.mark.parametrize("described", [False, True])
def test_every_product_has_a_tile(capability: tuple[int, int], kind: str, size: int, described: bool) -> None:
    for shape in ((1, 1, 1), (1, 8192, 8192), (8192, 7, 8192), (100, 100, 10**6), (2**20, 8, 16)):
        asked = work(*shape, kind=kind, size=size, described=described)
        found = triton_tiles.candidates(asked, replace(H100, capability=capability, shared=99 * 2**10))
        assert found
        assert described or not any(tile.persistent for tile in found)
