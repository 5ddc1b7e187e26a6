"""The fixed rule that brings tokens to experts."""

import numpy as np
import pytest

from perwatt.spec.routing import capacity, chosen

CASES = [(64, 8, 2), (100, 8, 2), (31, 3, 2), (50, 5, 2), (7, 128, 8), (33, 6, 4), (9, 4, 4), (12, 1, 1), (1, 8, 3)]


@pytest.mark.parametrize(("seq", "experts", "each"), CASES)
def test_tokens_have_distinct_experts_and_experts_equally_many_tokens(seq: int, experts: int, each: int) -> None:
    table = chosen(seq, 0, experts, each)
    assert table.shape == (seq, each)
    assert all(len(set(row)) == each for row in table.tolist())
    load = np.bincount(table.ravel(), minlength=experts)
    assert len(load) == experts
    assert load.max() - load.min() <= 1
    assert load.max() == capacity(seq, experts, each)


def test_layers_differ_and_a_longer_sequence_begins_alike() -> None:
    assert (chosen(64, 0, 8, 2) != chosen(64, 1, 8, 2)).any()
    assert (chosen(40, 0, 8, 2) == chosen(64, 0, 8, 2)[:40]).all()


def test_all_pairs_of_experts_meet() -> None:
    pairs = {tuple(sorted(row)) for row in chosen(512, 0, 8, 2).tolist()}
    assert len(pairs) == 8 * 7 / 2


def test_the_rule_is_as_recorded() -> None:
    """It is part of the work: another one is another match key."""
    assert chosen(4, 0, 8, 2).tolist() == [[7, 2], [3, 1], [5, 6], [0, 4]]
