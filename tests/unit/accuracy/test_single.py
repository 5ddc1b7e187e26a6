"""Judges in float32 compute in float32, whatever the policy of the case allows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from perwatt.accuracy import composite, single
from perwatt.spec.precision import policy


@pytest.fixture
def lowered() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def test_the_setting_of_the_case_comes_back(lowered: None) -> None:
    with single.exact():
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == "high"


def test_the_setting_comes_back_after_an_error(lowered: None) -> None:
    with pytest.raises(ValueError, match="no"), single.exact():
        raise ValueError("no")
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.parametrize("flops", [1.0, 2.0**40], ids=["float64", "float32"])
def test_the_truth_is_exact_and_the_yardstick_is_the_policys(lowered: None, flops: float) -> None:
    """Seen from within the function written out: which setting each of its evaluations met."""
    seen: list[tuple[torch.dtype, str]] = []

    def written(arithmetic: object) -> object:
        def double(x: torch.Tensor) -> torch.Tensor:
            seen.append((x.dtype, torch.get_float32_matmul_precision()))
            return 2 * x

        return double

    x = torch.ones(4, 4)
    problem = composite.Problem(
        operands=[x], cuts=(0,), result_cut=0, names=("x",), written=written, flops=flops, at_once=8.0,  # type: ignore[arg-type]
    )  # fmt: skip
    assert composite.check(problem, policy("tf32"), None, 2 * x, None).ok
    exact = {kind for kind, setting in seen if setting == "highest"}
    assert exact == ({torch.float64} if flops == 1.0 else {torch.float32, torch.float64})
    assert (torch.float32, "high") in seen
