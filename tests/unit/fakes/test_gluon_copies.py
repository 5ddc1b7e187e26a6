"""Copies of the emulator of Gluon: values at the ends, and every way of not waiting for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fakes.gluon import VERSIONS, Deadlock, Hazard, Refused, emulated
from support.gluon_planted import names, normal, shared, tile

SEEDS = range(4)
BLOCK = (16, 64)
BYTES = 16 * 64 * 2


def copied(
    seed: int = 0, lateness: float | None = None, version: str = VERSIONS[-1], *, shape: tuple[int, int] = (40, 72),
    at: tuple[int, int] = (32, 64), expected: int = BYTES, wait: bool = True, fence: bool = True, phase: int = 0,
    store_wait: bool = True, again: bool = False, padding: str = "zero", out: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """A tile through shared memory and registers, doubled, to a place of its own; or what is left out of that."""
    source = normal(*shape)
    target = torch.full(shape, -1.0).bfloat16() if out is None else out
    with emulated(seed, lateness, version):
        n = names()
        gl, bar = n.gl, n.bar

        @n.jit
        def kernel(a: Any, c: Any, x: Any, y: Any) -> None:
            block = gl.allocate_shared_memory(a.dtype, a.block_type.shape, a.layout)
            full = gl.allocate_shared_memory(gl.int64, [1], bar)
            n.mbarrier.init(full, count=1)
            n.mbarrier.expect(full, expected)
            n.copy_in(a, [x, y], full, block)
            if wait:
                n.mbarrier.wait(full, phase)
            value = block.load(n.tiled)
            block.store((value * 2.0).to(a.dtype))
            if fence:
                n.fence()
            n.copy_out(c, [x, y], block)
            if again:
                block.store(value)
            if store_wait:
                n.tma.store_wait(0)

        kernel[(1,)](tile(source, BLOCK, padding), tile(target, BLOCK), *at)
    return target


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_beyond_the_ends_zeros_are_read_and_nothing_is_written(seed: int, version: str) -> None:
    target = copied(seed, version=version)
    expected = torch.full((40, 72), -1.0).bfloat16()
    expected[32:, 64:] = 2 * normal(40, 72)[32:, 64:]
    assert torch.equal(target, expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_tile_that_begins_before_the_tensor(seed: int) -> None:
    expected = torch.full((40, 72), -1.0).bfloat16()
    expected[:12, :56] = 2 * normal(40, 72)[:12, :56]
    assert torch.equal(copied(seed, at=(-4, -8)), expected)


@pytest.mark.parametrize("lateness", [0.0, 0.5, 1.0])
def test_a_copy_that_is_not_waited_for_is_a_hazard(lateness: float) -> None:
    with pytest.raises(Hazard, match=r"nothing orders after the load"):
        copied(lateness=lateness, wait=False)


def test_the_wrong_parity_goes_on_at_once() -> None:
    with pytest.raises(Hazard, match=r"nothing orders after the load"):
        copied(lateness=1.0, phase=1)


def test_a_store_without_a_fence() -> None:
    with pytest.raises(Hazard, match=r"copied out without fence_async_shared"):
        copied(fence=False)


def test_a_source_that_is_written_before_the_store_has_read_it() -> None:
    with pytest.raises(Hazard, match=r"while it is read and not waited for.*store of default"):
        copied(again=True)


def test_a_program_that_ends_before_its_store_has_read() -> None:
    with pytest.raises(Hazard, match=r"store_wait"):
        copied(store_wait=False)


def test_more_bytes_are_expected_than_come() -> None:
    with pytest.raises(Deadlock, match=r"waits for parity 0 of .* 2 bytes to come"):
        copied(expected=BYTES + 2)


def test_fewer_bytes_are_expected_than_come() -> None:
    with pytest.raises(Hazard, match=r"2 bytes more than expected"):
        copied(expected=BYTES - 2)


def test_bytes_that_are_not_expected_at_all() -> None:
    with pytest.raises(Hazard, match=r"fewer were expected|nothing orders after the load"):
        copied(expected=0)


def test_the_innermost_coordinate_is_aligned() -> None:
    with pytest.raises(Hazard, match=r"innermost coordinate is a multiple of 16 bytes"):
        copied(at=(0, 3))


def test_strides_of_a_descriptor_are_aligned() -> None:
    with pytest.raises(AssertionError, match=r"16-byte aligned"):
        copied(shape=(40, 71))


def test_not_a_number_beyond_the_ends_where_told() -> None:
    out = torch.zeros(48, 128).bfloat16()
    copied(padding="nan", out=out)
    assert out[40:, 64:].isnan().all()
    assert not out[:40, :72].isnan().any()


@pytest.mark.parametrize("lateness", [0.0, 1.0, None])
@pytest.mark.parametrize("seed", SEEDS)
def test_sums_in_memory_by_the_accelerator(seed: int, lateness: float | None) -> None:
    target = torch.ones(20, 64)
    with emulated(seed, lateness):
        n = names()
        gl, form = n.gl, shared(BLOCK, torch.float32)

        @n.jit
        def kernel(c: Any) -> None:
            block = gl.allocate_shared_memory(gl.float32, [16, 64], form)
            block.store(gl.full([16, 64], 1.0, gl.float32, n.tiled) + gl.program_id(0))
            n.fence()
            n.tma.async_atomic_add(c, [16, 0], block)
            n.tma.store_wait(0)

        kernel[(3,)](tile(target, BLOCK))
    assert (target[:16] == 1).all()
    assert (target[16:] == 1 + 1 + 2 + 3).all()


def test_another_layout_than_the_descriptors() -> None:
    with emulated():
        n = names()
        gl, bar = n.gl, n.bar
        other = gl.NVMMASharedLayout(64, 16)

        @n.jit
        def kernel(a: Any) -> None:
            block = gl.allocate_shared_memory(a.dtype, [16, 64], other)
            full = gl.allocate_shared_memory(gl.int64, [1], bar)
            n.mbarrier.init(full, count=1)
            n.copy_in(a, [0, 0], full, block)

        with pytest.raises(Refused, match=r"a descriptor of bf16\[16, 64\]"):
            kernel[(1,)](tile(normal(16, 64), BLOCK))


def test_a_slot_that_registers_wrote_is_not_copied_into_without_a_fence() -> None:
    with emulated():
        n = names()
        gl, bar = n.gl, n.bar

        @n.jit
        def kernel(a: Any) -> None:
            block = gl.allocate_shared_memory(a.dtype, [16, 64], a.layout)
            block.store(gl.zeros([16, 64], a.dtype, n.tiled))
            full = gl.allocate_shared_memory(gl.int64, [1], bar)
            n.mbarrier.init(full, count=1)
            n.mbarrier.expect(full, a.block_type.nbytes)
            n.copy_in(a, [0, 0], full, block)

        with pytest.raises(Hazard, match=r"copied into without fence_async_shared"):
            kernel[(1,)](tile(normal(16, 64), BLOCK))


def test_a_tile_in_shared_memory_is_aligned() -> None:
    with emulated():
        n = names()
        gl, bar = n.gl, n.bar
        form = gl.NVMMASharedLayout(0, 16, rank=1)

        @n.jit
        def kernel(a: Any) -> None:
            ring = gl.allocate_shared_memory(a.dtype, [2, 32], a.layout)
            full = gl.allocate_shared_memory(gl.int64, [1], bar)
            n.mbarrier.init(full, count=1)
            n.copy_in(a, [0], full, ring.index(1))

        from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

        with pytest.raises(Hazard, match=r"begins at a multiple of 128 bytes"):
            kernel[(1,)](TensorDescriptor(normal(64), [64], [1], [32], form))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_later_copy_that_is_waited_for_says_nothing_of_an_earlier_one(seed: int) -> None:
    with emulated(seed):
        n = names()
        gl, bar = n.gl, n.bar

        @n.jit
        def kernel(a: Any) -> None:
            blocks = gl.allocate_shared_memory(a.dtype, [2, 16, 64], a.layout)
            full = gl.allocate_shared_memory(gl.int64, [2, 1], bar)
            for which in gl.static_range(2):
                n.mbarrier.init(full.index(which), count=1)
                n.mbarrier.expect(full.index(which), a.block_type.nbytes)
                n.copy_in(a, [16 * which, 0], full.index(which), blocks.index(which))
            n.mbarrier.wait(full.index(1), 0)
            blocks.index(0).load(n.tiled)

        with pytest.raises(Hazard, match=r"nothing orders after the load"):
            kernel[(1,)](tile(normal(32, 64), BLOCK))
