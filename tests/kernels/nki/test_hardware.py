"""The constants of each generation against figures that other pages print."""

from __future__ import annotations

import pytest

from perwatt_kernels.nki_interpreter.hardware import GENERATIONS, V2, V3, V4, generation


@pytest.mark.parametrize(("target", "found"), [("trn1", V2), ("inf2", V2), ("TRN2", V3), ("gen4", V4), ("trn3", V4)])
def test_a_target_names_a_generation(target: str, found: object):
    assert generation(target) is found


def test_an_unknown_target_is_told_what_there_is():
    with pytest.raises(ValueError, match="found 'trn9', expected one of trn1, inf2, gen2, trn2"):
        generation("trn9")


def test_capacities_are_those_of_the_guides():
    assert [g.partitions * g.sbuf_partition / 2**20 for g in GENERATIONS] == [24, 28, 32]
    assert {g.partitions * g.psum_partition for g in GENERATIONS} == {2 * 2**20}


def test_rates_are_those_that_the_guides_print():
    """Table of the DMA bandwidth guide, and TFLOPS of the engine pages: 92, 79, 79, MX 315."""
    assert [g.dma.rate_gb_per_s for g in GENERATIONS] == [272, 368, 528]
    rates = [2e-3 * g.tensor.products_per_cycle * g.tensor.clock_ghz for g in GENERATIONS]
    assert rates == pytest.approx([92, 79, 79], rel=0.01)
    assert rates[2] * V4.tensor.packed_depth == pytest.approx(315, rel=0.01)


@pytest.mark.parametrize(("count", "starts"), [(1, 4), (32, 4), (33, 2), (64, 2), (65, 1), (128, 1)])
def test_where_an_operand_may_start(count: int, starts: int):
    assert len(V3.starts(count)) == starts
