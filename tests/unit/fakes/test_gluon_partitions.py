"""Partitions of the emulator of Gluon: rings of stages that hold for every seed, and those that do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fakes.gluon import VERSIONS, Deadlock, Hazard, Refused, emulated
from support.gluon_planted import names, normal, tile

SEEDS = range(4)
STAGES, STEPS = 3, 10


def ring(
    seed: int = 0, lateness: float | None = None, version: str = VERSIONS[-1], *, first: int = 1, empty: bool = True,
    released: bool = True, early: bool = False, consumers: int = 1, count: int | None = None, stages: int = STAGES,
    arrivals: int = 1, begin: int = 0, invalidate: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Sums of tiles that one warp copies into a ring and others add up: each consumer has the sum of all.

    The mistakes: producers that begin with the wrong parity (``first``), that do not wait (``empty``), consumers that
    never release a stage, or before they have read it, counts that do not match.
    """
    source, target = normal(STEPS * 16, 64), torch.zeros(consumers, 16, 64)
    with emulated(seed, lateness, version):
        n = names()
        gl, bar = n.gl, n.bar

        @n.jit
        def produce(a: Any, slots: Any, full: Any, free: Any) -> None:
            for step in range(STEPS):
                slot = step % stages
                if empty:
                    n.mbarrier.wait(free.index(slot), step // stages & 1 ^ first)
                n.mbarrier.expect(full.index(slot), a.block_type.nbytes)
                n.copy_in(a, [step * 16, 0], full.index(slot), slots.index(slot))

        @n.jit
        def consume(c: Any, slots: Any, full: Any, free: Any, who: Any) -> None:
            total = gl.zeros([16, 64], gl.float32, n.tiled)
            for step in range(begin, STEPS):
                slot = step % stages
                n.mbarrier.wait(full.index(slot), step // stages & 1)
                if early:
                    n.mbarrier.arrive(free.index(slot), count=1)
                total += slots.index(slot).load(n.tiled)
                if released and not early:
                    n.mbarrier.arrive(free.index(slot), count=arrivals)
            rows = gl.arange(0, 16, gl.SliceLayout(1, n.tiled))[:, None]
            columns = gl.arange(0, 64, gl.SliceLayout(0, n.tiled))[None, :]
            gl.store(c + who * 1024 + rows * 64 + columns, total)

        @n.jit
        def kernel(a: Any, c: Any) -> None:
            slots = gl.allocate_shared_memory(a.dtype, [stages, 16, 64], a.layout)
            full = gl.allocate_shared_memory(gl.int64, [stages, 1], bar)
            free = gl.allocate_shared_memory(gl.int64, [stages, 1], bar)
            for slot in gl.static_range(stages):
                n.mbarrier.init(full.index(slot), count=1)
                n.mbarrier.init(free.index(slot), count=count or consumers)
            if invalidate:
                n.mbarrier.invalidate(free.index(0))
            work = [(consume, (c, slots, full, free, 0))]
            if consumers > 1:
                work = [*work, (consume, (c, slots, full, free, 1))]
            work = [*work, (produce, (a, slots, full, free))]
            warps, registers = ([4, 1], [232, 24]) if consumers > 1 else ([1], [24])
            gl.warp_specialize(work, warps, registers)

        kernel[(1,)](tile(source, (16, 64)), target)
    return target, source.double().view(STEPS, 16, 64).sum(0).expand(consumers, 16, 64)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("lateness", [0.0, 0.9, 1.0, None])
@pytest.mark.parametrize("consumers", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_ring_that_is_right_is_right_for_every_seed(
    seed: int, consumers: int, lateness: float | None, version: str
) -> None:
    made, exact = ring(seed, lateness, version, consumers=consumers)
    torch.testing.assert_close(made, exact, check_dtype=False, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_other_numbers_of_stages(seed: int, stages: int) -> None:
    torch.testing.assert_close(*ring(seed, stages=stages), check_dtype=False, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("mistake", "error", "message"),
    [
        ({"first": 0}, Deadlock, r"produce \(1\): waits for parity 0 .*test_gluon_partitions.py:\d+ in produce"),
        ({"released": False}, Deadlock, r"no partition can go on"),
        ({"count": 2}, Deadlock, r"1 of 2 arrivals"),
        ({"empty": False}, Hazard, r"."),
        ({"early": True}, Hazard, r"nothing orders after"),
        ({"arrivals": 2}, Hazard, r"2 arrivals, more than are to come"),
        ({"invalidate": True}, Hazard, r"after its invalidation"),
        ({"begin": STAGES}, Hazard, r"."),
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_rings_that_are_not_right(seed: int, mistake: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ring(seed, **mistake)


def test_a_deadlock_tells_of_every_partition_and_barrier() -> None:
    with pytest.raises(Deadlock) as found:
        ring(released=False)
    text = str(found.value)
    assert "default: waits for parity 1 of barrier 0 of allocation 1" in text
    assert "produce (1): waits for parity 0 of barrier 0 of allocation 2" in text
    assert text.count("phase") >= 2 * STAGES


def specialized(warps: list[int], registers: Any, version: str = VERSIONS[-1], result: Any = None) -> Any:
    """What the default partition hands back."""
    seen: list[Any] = []
    with emulated(version=version):
        n = names()
        gl = n.gl

        @n.jit
        def default() -> Any:
            return result

        @n.jit
        def worker() -> None:
            seen.append(gl.num_warps())

        @n.jit
        def kernel() -> None:
            seen.append(gl.warp_specialize([(default, ()), (worker, ())], warps, registers))

        kernel[(1,)]()
    return seen


def test_a_partition_has_warps_of_its_own() -> None:
    assert specialized([2], [24]) == [2, None]


def test_results_are_those_of_the_default_partition() -> None:
    assert specialized([1], [24], result=(1, 2))[1] == (1, 2)
    assert specialized([1], None, result=3)[1] == 3
    with pytest.raises(Refused, match=r"tuple"):
        specialized([1], [24], "3.6", result=3)


@pytest.mark.parametrize(("warps", "registers"), [([3], [24]), ([1, 1], [24]), ([1], [24, 24]), ([1], [8])])
def test_warps_and_registers_that_are_refused(warps: list[int], registers: list[int]) -> None:
    with pytest.raises(Refused):
        specialized(warps, registers)


def test_a_worker_that_fails_ends_all() -> None:
    with emulated():
        n = names()
        gl, bar = n.gl, n.bar

        @n.jit
        def default(done: Any) -> None:
            n.mbarrier.wait(done, 0)

        @n.jit
        def worker() -> None:
            gl.device_assert(gl.program_id(0) > 0, "planted")

        @n.jit
        def kernel() -> None:
            done = gl.allocate_shared_memory(gl.int64, [1], bar)
            n.mbarrier.init(done, count=1)
            gl.warp_specialize([(default, (done,)), (worker, ())], [1], [24])

        with pytest.raises(Hazard, match=r"planted"):
            kernel[(1,)]()
        kernel[(0,)]()  # a grid without programs runs nothing


@pytest.mark.parametrize("grad", [True, False])
def test_a_launch_has_nothing_to_do_with_derivatives(grad: bool) -> None:
    """Which are on or off in each thread, and partitions are threads."""
    x = torch.ones(4, requires_grad=True)
    source = normal(16, 64).requires_grad_()
    with emulated(), torch.set_grad_enabled(grad):
        n = names()
        gl, bar = n.gl, n.bar

        @n.jit
        def default(x: Any) -> None:
            gl.store(x, gl.load(x + 1) * 2.0)

        @n.jit
        def worker(a: Any) -> None:
            block = gl.allocate_shared_memory(a.dtype, [16, 64], a.layout)
            full = gl.allocate_shared_memory(gl.int64, [1], bar)
            n.mbarrier.init(full, count=1)
            n.mbarrier.expect(full, a.block_type.nbytes)
            n.copy_in(a, [0, 0], full, block)
            n.mbarrier.wait(full, 0)
            n.copy_out(a, [0, 0], block)
            n.tma.store_wait(0)

        @n.jit
        def kernel(x: Any, a: Any) -> None:
            gl.warp_specialize([(default, (x,)), (worker, (a,))], [1], [24])

        kernel[(1,)](x, tile(source, (16, 64)))
    assert x.tolist() == [2.0, 1.0, 1.0, 1.0]
