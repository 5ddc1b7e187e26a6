"""Attention in Gluon, compiled for a Hopper GPU that need not be there: what the emulator cannot show."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

pytest.importorskip("triton.experimental.gluon")
from support.absent_gpu import lines_of

ROOM = 227 * 2**10  # bytes of shared memory for a program


@cache
def compiled() -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of("support.gluon_attention", 90)]


@pytest.mark.slow
def test_products_are_under_way_while_others_compute_and_nothing_spills_there() -> None:
    found = compiled()
    assert {one["work"] for one in found} == {"128-causal", "128", "64-causal", "256-causal", "one"}
    for one in found:
        assert one["kernel"] == "perwatt_attention_forward_gluon"
        assert one["shared"] <= ROOM
        assert not one["warnings"], one  # such as of products that the assembler puts one after the other
        if one["work"] != "one":  # which has one step
            assert 1 in one["waits"]
            assert (one["loops"], one["spills"]) == (2, 0), one


@pytest.mark.slow
def test_tiles_come_and_go_by_the_tensor_memory_accelerator_and_registers_move_to_consumers() -> None:
    for one in compiled():
        ways = {"cp.async.bulk.tensor.4d.shared", "cp.async.bulk.tensor.4d.global"}
        assert ways | {"setmaxnreg", "wgmma.mma_async"} == set(one["does"]), one
