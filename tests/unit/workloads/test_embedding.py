"""embedding: bytes, Zipf's law, and faults of its own."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from perwatt.spec.data import Recipe, Source
from support.sessions import assert_passes, case, faulty, opened

PARAMS = {"tokens": 256, "vocab": 100, "hidden": 32}


def test_bytes_of_each_pass() -> None:
    made = case("embedding", PARAMS, precision="bf16")
    rows, ids, table = 256 * 32 * 2, 256 * 8, 100 * 32 * 2
    counts = {p: made.workload.counts(made.params, p, made.precision).bytes for p in made.workload.passes}
    assert counts == {"fwd": 2 * rows + ids, "bwd": rows + ids + table, "fwd+bwd": 3 * rows + 2 * ids + table}


def test_zipf_is_other_work_and_passes_too() -> None:
    skewed = case("embedding", {**PARAMS, "ids": "zipf"}, pass_="fwd+bwd")
    assert skewed.match_key != case("embedding", PARAMS, pass_="fwd+bwd").match_key
    assert_passes(skewed)


def test_zipf_follows_its_law() -> None:
    high, count = 1000, 2_000_000
    ids = Source(1).array(Recipe(name="ids", shape=(count,), kind="zipf", high=high))
    found = np.bincount(ids, minlength=high) / count
    expected = 1 / np.arange(1, high + 1)
    expected /= expected.sum()
    deviations = (found - expected) / np.sqrt(expected / count)
    assert len(found) == high
    assert abs(deviations).max() < 5
    assert 0.9 < deviations.std() < 1.1


def test_zipf_is_the_same_on_every_machine() -> None:
    ids = Source(7).array(Recipe(name="ids", shape=(8,), kind="zipf", high=50_000))
    assert ids.tolist() == [609, 42, 86, 259, 34, 11, 30, 319]


@pytest.mark.parametrize(
    "fault",
    {
        "the next row": lambda w, ids: F.embedding((ids + 1) % 100, w),
        "one row of another id": lambda w, ids: F.embedding(ids, w) + 1e-3 * (torch.arange(256) == 17)[:, None],
    }.items(),
    ids=lambda item: item[0],
)
def test_wrong_rows_are_caught(fault) -> None:
    assert not faulty(case("embedding", PARAMS, precision="bf16"), lambda function: fault[1]).ok


def test_a_gradient_of_repeated_ids_must_add_up() -> None:
    class Last(torch.autograd.Function):
        """Keeps the last gradient of each row where it should add them."""

        @staticmethod
        def forward(ctx, w, ids):
            ctx.save_for_backward(w, ids)
            return w[ids]

        @staticmethod
        def backward(ctx, dy):
            w, ids = ctx.saved_tensors
            return torch.zeros_like(w).index_copy(0, ids, dy), None

    made = case("embedding", PARAMS, pass_="fwd+bwd")
    assert not faulty(made, lambda function: Last.apply).ok
    assert opened(made).check(0).ok
