"""A training step over two ranks is the step of one: losses, gradients, weights and moments, and the gate."""

from __future__ import annotations

from typing import Any

import pytest

from perwatt.models.spread import Alone
from support import ranks
from support import spread as of

WORLD = 2
EXACT, ROUNDED = 2e-6, 2e-2  # relative error of a tensor as a whole, in fp32 and where gradients are in 16 bits


@pytest.fixture(scope="module")
def found() -> list[Any]:
    return ranks.run(of.work, WORLD)


def close(a: list[float], b: list[float], bound: float) -> bool:
    size = sum(x * x for x in b) ** 0.5
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5 <= bound * max(size, 1e-30)


def expect_equal(one: Any, alone: Any, bound: float) -> None:
    assert one["digest"] == alone["digest"]
    assert one["losses"] == pytest.approx(alone["losses"], rel=bound)
    for kind in ("gradients", "weights", "moments"):
        assert one[kind].keys() == alone[kind].keys()
        wrong = [name for name, values in alone[kind].items() if not close(one[kind][name], values, 20 * bound)]
        assert not wrong, (kind, wrong)


@pytest.mark.parametrize(
    ("layout", "name"), [("fsdp", name) for name in of.CASES] + [("ddp", name) for name in of.SHARED]
)
def test_two_ranks_do_what_one_does(found: list[Any], layout: str, name: str) -> None:
    alone = of.steps(of.trainer(Alone(), **of.CASES[name]))
    for rank in found:
        expect_equal(rank[f"{layout} {name}"], alone, EXACT)


@pytest.mark.parametrize("layout", of.LAYOUTS)
@pytest.mark.parametrize("precision", ["bf16", "bf16_master"])
def test_in_other_formats_too(found: list[Any], layout: str, precision: str) -> None:
    alone = of.steps(of.trainer(Alone(), precision))
    for rank in found:
        expect_equal(rank[f"{layout} {precision}"], alone, ROUNDED if precision == "bf16" else 1e-3)


@pytest.mark.parametrize("layout", of.LAYOUTS)
def test_compiled_layers_do_the_same(found: list[Any], layout: str) -> None:
    for rank in found:
        expect_equal(rank[f"{layout} compiled"], of.steps(of.trainer(Alone())), EXACT)


@pytest.mark.parametrize("layout", of.LAYOUTS)
@pytest.mark.parametrize("precision", ["fp32", "bf16_master"])
def test_the_gate_passes_and_says_the_same_on_every_rank(found: list[Any], layout: str, precision: str) -> None:
    said = [rank[f"{layout} gate {precision}"] for rank in found]
    assert said[0]["ok"], said[0]["why"]
    assert said[0] == said[1]


def test_gradients_that_are_not_added_up_fail_the_gate(found: list[Any]) -> None:
    assert not any(rank["forgetful"]["ok"] for rank in found)
    assert any("gradient" in why for why in found[0]["forgetful"]["why"])


def test_shards_divide_the_weights_and_copies_do_not(found: list[Any]) -> None:
    whole = sum(p.numel() for p in of.trainer(Alone()).parameters)
    assert [rank["ddp held"] for rank in found] == [whole, whole]
    assert sum(rank["fsdp held"] for rank in found) == whole
    assert all(rank["fsdp held"] < 0.6 * whole for rank in found)
