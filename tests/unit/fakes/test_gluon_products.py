"""Products of the emulator of Gluon: values, what they read and when, and what the instruction does not take."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fakes.gluon import VERSIONS, Hazard, Refused, emulated
from support.gluon_planted import names, normal, shared

SEEDS = range(4)


def stored(x: Any, a: Any, n: Any) -> Any:
    """A [64, 64] tensor in global memory as a tile in shared memory."""
    gl = n.gl
    rows = gl.arange(0, 64, gl.SliceLayout(1, n.tiled))[:, None]
    columns = gl.arange(0, 64, gl.SliceLayout(0, n.tiled))[None, :]
    block = gl.allocate_shared_memory(a.dtype.element_ty, [64, 64], x)
    block.store(gl.load(a + rows * 64 + columns))
    return block


def product(
    seed: int = 0, lateness: float | None = None, version: str = VERSIONS[-1], *, dtype: torch.dtype = torch.bfloat16,
    fence: bool = True, overwrite: bool = False, early: bool = False, unwaited: bool = False, turned: bool = False,
    registers: str = "", outstanding: int = 0, layout: Any = None, read_operand: bool = False, twice: bool = False,
    accumulate: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Two products into the same sums, and the sums; or a mistake on the way."""
    a, b, c = normal(64, 64).to(dtype), normal(64, 64).t().contiguous().to(dtype), torch.full((64, 64), float("nan"))
    with emulated(seed, lateness, version):
        n = names()
        gl, form = n.gl, shared((64, 64), dtype)
        depth = 32 // dtype.itemsize
        sums = layout(gl) if layout else gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 64, depth])
        load = n.jit(stored)

        @n.jit
        def kernel(a: Any, b: Any, c: Any) -> None:
            left, right = load(form, a, n), load(form, b, n)
            if fence:
                n.fence()
            operand = left
            if registers:
                held = gl.DotOperandLayout(0, sums, 2 if registers == "right" else 4)
                operand = left.load(held if registers != "plain" else n.tiled)
            if turned:
                right = right.permute([1, 0])
            acc = gl.full([64, 64], 1.0, gl.float32, sums)
            acc = n.mma(operand, right, acc, use_acc=accumulate, is_async=True)
            if twice:
                n.mma(operand, right, acc, is_async=True)
            if read_operand:
                gl.max(operand.to(gl.float32))
            acc = n.mma(operand, right, acc, is_async=True)
            if overwrite:
                left.store(gl.zeros([64, 64], left.dtype, n.tiled))
            if not unwaited:
                acc = n.mma_wait(outstanding, deps=[acc])
            if early:
                acc = acc + 1.0
            rows = gl.arange(0, 64, gl.SliceLayout(1, sums))[:, None]
            columns = gl.arange(0, 64, gl.SliceLayout(0, sums))[None, :]
            if not unwaited:
                gl.store(c + rows * 64 + columns, acc)

        kernel[(1,)](a, b, c)
    exact = (1.0 if accumulate else 0.0) + 2 * a.double() @ (b.t() if turned else b).double()
    return c, exact


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("lateness", [0.0, 1.0, None])
@pytest.mark.parametrize("seed", SEEDS)
def test_products_are_summed(seed: int, lateness: float | None, version: str) -> None:
    torch.testing.assert_close(*product(seed, lateness, version), check_dtype=False, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("options", [{"turned": True}, {"registers": "right"}, {"accumulate": False}])
@pytest.mark.parametrize("seed", SEEDS)
def test_turned_operands_and_operands_in_registers(seed: int, options: dict[str, Any]) -> None:
    torch.testing.assert_close(*product(seed, **options), check_dtype=False, rtol=1e-5, atol=1e-4)


def test_eight_bits_are_read_by_rows_of_the_inner_extent_only() -> None:
    eight = torch.float8_e4m3fn
    torch.testing.assert_close(*product(dtype=eight, turned=True), check_dtype=False, rtol=1e-5, atol=1e-4)
    with pytest.raises(Refused, match=r"operand b .* by rows of its inner extent only"):
        product(dtype=eight)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"fence": False}, r"multiplied without fence_async_shared"),
        ({"overwrite": True}, r"written while it is read and not waited for.*product of default"),
        ({"outstanding": 1, "early": True}, r"registers of a product in flight are read"),
        ({"unwaited": True}, r"ends with products in flight"),
        ({"registers": "right", "read_operand": True}, r"registers of a product in flight are read"),
        ({"twice": True}, r"handed to two products"),
    ],
)
@pytest.mark.parametrize("lateness", [0.0, 1.0])
def test_what_goes_wrong_on_a_device(mistake: dict[str, Any], message: str, lateness: float) -> None:
    with pytest.raises(Hazard, match=message):
        product(lateness=lateness, **mistake)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"registers": "plain"}, r"operand a in registers has the layout"),
        ({"registers": "wide"}, r"operand a in registers has the layout"),
        ({"layout": lambda gl: gl.NVMMADistributedLayout([2, 0], [4, 1], [16, 8])}, r"version \[3, 0\]"),
        ({"layout": lambda gl: gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 64, 32])}, r"the instruction is"),
        ({"layout": lambda gl: gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 128, 16])}, r"not whole instructions"),
        ({"layout": lambda gl: gl.NVMMADistributedLayout([3, 0], [8, 1], [16, 64, 16])}, r"4 warps run this"),
    ],
)
def test_what_the_instruction_does_not_take(mistake: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        product(**mistake)


def test_a_right_kernel_has_the_same_values_early_and_late() -> None:
    assert torch.equal(product(lateness=1.0)[0], product(lateness=0.0)[0])
