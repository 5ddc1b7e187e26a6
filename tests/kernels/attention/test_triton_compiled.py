"""Attention in Triton, compiled for GPUs that need not be there: what the interpreter cannot show.

Triton's package has the assembler, so kernels are compiled to machine code for a capability on any machine. That they
compile from the launches as they are, fit a chip, and use the products and copies that it has is seen so; not that they
are right, nor how fast they are.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

pytest.importorskip("triton")
from support.absent_gpu import lines_of

HOPPER, AMPERE = 227 * 2**10, 99 * 2**10  # bytes of shared memory for a tile; the least of 8.x
BACKWARD = {"perwatt_attention_delta", "perwatt_attention_backward_keys"}
ALL = BACKWARD | {"perwatt_attention_forward", "perwatt_attention_backward_queries"}
Seen = dict[str, dict[str, set[str]]]


@cache
def kernels(capability: int) -> list[dict[str, Any]]:
    """All that is told of them."""
    return [json.loads(line) for line in lines_of("support.triton_attention", capability)]


def compiled(capability: int, room: int) -> Seen:
    """By work and kernel, which instructions of interest it has."""
    found: Seen = {}
    for kernel in kernels(capability):
        assert kernel["shared"] <= room, kernel
        found.setdefault(kernel["work"], {})[kernel["kernel"]] = set(kernel["does"])
    return found


@pytest.mark.slow
def test_hopper_has_its_own_products_and_copies() -> None:
    found = compiled(90, HOPPER)
    for work in ("large", "one", "packed"):
        assert found[work].keys() == ALL
        assert all("mma.sync" not in does for does in found[work].values())
        for kernel in ALL - {"perwatt_attention_delta"}:
            assert "wgmma.mma_async" in found[work][kernel]
            assert ("cp.async.bulk.tensor" in found[work][kernel]) == (work == "large")  # by descriptors
    assert found["atomic"].keys() == BACKWARD | {"perwatt_attention_forward"}
    assert "cp.reduce.async.bulk.tensor" in found["atomic"]["perwatt_attention_backward_keys"]
    assert found["fp8"] == {"perwatt_attention_forward": found["fp8"]["perwatt_attention_forward"]}
    assert {"wgmma.mma_async", "e4m3.e4m3"} <= found["fp8"]["perwatt_attention_forward"]


@pytest.mark.slow
def test_tiles_for_capability_8_0_compile() -> None:
    found = compiled(80, AMPERE)["large"]
    assert found.keys() == ALL
    for kernel in ALL - {"perwatt_attention_delta"}:
        assert {"mma.sync", "cp.async.cg"} <= found[kernel]


@pytest.mark.slow
def test_a_tile_is_compiled_once_for_all_lengths_that_it_cuts_evenly() -> None:
    hashes = {(kernel["work"], kernel["kernel"]): kernel["hash"] for kernel in kernels(90)}
    for kernel in (
        "perwatt_attention_forward",
        "perwatt_attention_backward_keys",
        "perwatt_attention_backward_queries",
    ):
        assert hashes["large", kernel] == hashes["longer", kernel]
