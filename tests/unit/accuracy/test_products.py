"""The gate of products: honest results pass, planted faults do not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from perwatt.accuracy import products

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def operands(m: int, n: int, k: int, compute: str = "fp32", seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*s, generator=source).to(DTYPES[compute]) for s in ((m, k), (k, n)))  # type: ignore[return-value]


def gate(a: Tensor, b: Tensor, c: Tensor, compute: str = "fp32", output: str | None = None):
    return products.check(a, b, c, bound=products.bound(compute, output or compute, a.shape[-1]), name="result")


@pytest.fixture(params=["whole", "sampled"])
def sampled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to take the norm: over the whole result, and over chosen rows and columns of a large one."""
    if request.param == "sampled":
        monkeypatch.setattr(products, "WHOLE", 0)


@pytest.mark.usefixtures("sampled")
@pytest.mark.parametrize("compute", DTYPES)
@pytest.mark.parametrize("shape", [(256, 192, 320), (1, 700, 33), (700, 1, 4096), (5, 5, 1)])
def test_honest_products_pass(compute: str, shape: tuple[int, int, int]) -> None:
    a, b = operands(*shape, compute)
    assert gate(a, b, a @ b, compute).ok
    assert gate(a, b, (a.double() @ b.double()).to(a.dtype), compute).ok


def test_rows_of_very_different_size_pass() -> None:
    a, b = operands(300, 200, 100)
    a *= torch.logspace(-6, 6, 300)[:, None]
    assert gate(a, b, a @ b).ok


def lost_tile(a: Tensor, b: Tensor) -> Tensor:
    c = a @ b
    c[200:232, 100:132] = 0
    return c


def lost_element(a: Tensor, b: Tensor) -> Tensor:
    c = a @ b
    c[201, 101] = 0
    return c


def lost_depth(a: Tensor, b: Tensor) -> Tensor:
    return a[:, :-32] @ b[:-32]


def bf16_accumulation(a: Tensor, b: Tensor) -> Tensor:
    total = torch.zeros(a.shape[0], b.shape[1], dtype=torch.bfloat16)
    for i in range(0, a.shape[1], 32):
        total += (a[:, i : i + 32].float() @ b[i : i + 32].float()).bfloat16()
    return total.to(a.dtype)


def bf16_operands(a: Tensor, b: Tensor) -> Tensor:
    return (a.bfloat16().float() @ b.bfloat16().float()).to(a.dtype)


def transposed(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b).T.contiguous()


def nan_in_one_element(a: Tensor, b: Tensor) -> Tensor:
    c = a @ b
    c[17, 33] = float("nan")
    return c


def infinite_element(a: Tensor, b: Tensor) -> Tensor:
    c = a @ b
    c[17, 33] = float("inf")
    return c


@pytest.mark.usefixtures("sampled")
@pytest.mark.parametrize(
    ("fault", "compute"),
    [
        (lost_tile, "fp32"), (lost_tile, "bf16"), (lost_element, "fp32"), (lost_element, "bf16"), (lost_depth, "fp32"),
        (lost_depth, "bf16"), (bf16_accumulation, "bf16"), (bf16_accumulation, "fp32"), (bf16_operands, "fp32"),
        (transposed, "fp32"), (nan_in_one_element, "fp32"), (nan_in_one_element, "bf16"), (infinite_element, "fp32"),
    ],
)  # fmt: skip
def test_planted_faults_fail(fault: Callable[[Tensor, Tensor], Tensor], compute: str) -> None:
    a, b = operands(512, 512, 1024, compute)
    result = gate(a, b, fault(a, b), compute)
    assert not result.ok
    assert result.detail


def test_every_batch_entry_is_checked() -> None:
    a, b = torch.randn(3, 64, 32), torch.randn(3, 32, 48)
    c = a @ b
    assert gate(a, b, c).ok
    c[1] = c[0]
    assert not gate(a, b, c).ok


def test_the_bound_grows_with_depth_only_for_wide_outputs() -> None:
    assert products.bound("fp32", "fp32", 16384) == pytest.approx(2e-5)
    assert products.bound("fp32", "fp32", 16) == 1e-5
    assert products.bound("bf16", "bf16", 16384) == products.bound("bf16", "bf16", 16) == 2.2e-3
