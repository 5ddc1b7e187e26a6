"""The cost model against what others print: AWS's tutorial stages, and a third party's times on Trn2."""

from __future__ import annotations

from typing import Any

import pytest

from perwatt_kernels.nki_interpreter import api
from perwatt_kernels.nki_interpreter.api import nisa, nl
from perwatt_kernels.nki_interpreter.cost import LAUNCH_US, MODEL_TO_MEASURED, Cost, cost
from perwatt_kernels.nki_interpreter.hardware import GENERATIONS, V2, V3, V4, Generation
from perwatt_kernels.nki_interpreter.launch import Kernel, Spec
from perwatt_kernels.nki_interpreter.schedule import DmaTime
from support import nki_kernels

pytestmark = pytest.mark.skipif(api.real(), reason="counts what the stand-ins record")


def of(kernel: Any, *shapes: tuple[int, ...], gen: Generation = V3, dtype: str = "bfloat16", lnc: int = 1) -> Cost:
    return cost(Kernel(kernel, lnc), [Spec(shape, dtype) for shape in shapes], gen)


@pytest.fixture(scope="module")
def stages() -> dict[str, list[Cost]]:
    return {
        gen.name: [of(stage, (2048, 2048), (2048, 2048), gen=gen) for stage in nki_kernels.STAGES] for gen in (V2, V3)
    }


def test_intensities_are_those_of_the_tutorial(stages: dict[str, list[Cost]]):
    """It prints 102 operations a byte for the first stage and 683 for the last."""
    for found in stages.values():
        assert found[0].load_intensity == pytest.approx(102, rel=0.1)
        assert found[-1].load_intensity == pytest.approx(683, rel=0.1)


def test_stages_are_in_the_order_of_the_tutorial(stages: dict[str, list[Cost]]):
    """Each is faster than the one before; all are bound by memory on gen2 below 222 operations a byte."""
    for found in stages.values():
        assert [one.modeled_s for one in found] == sorted((one.modeled_s for one in found), reverse=True)
        assert [one.bound for one in found] == ["dma", "dma", "dma", "tensor"]


ANCHORS = [((2048, 2048, 2048), 91.7), ((4096, 4096, 4096), 135.2), ((12288, 8192, 8192), 149.4)]


@pytest.mark.parametrize(
    ("shape", "printed"), [pytest.param(*one, marks=pytest.mark.slow if one[0][0] > 5000 else ()) for one in ANCHORS]
)
def test_times_are_those_that_a_third_party_measured(shape: tuple[int, int, int], printed: float):
    """TFLOP/s of one logical core of Trn2, through a framework, so with what it takes to launch an operation.

    The factor is that of the largest product; the two others, and the launch, are not fitted.
    """
    m, n, k = shape
    found = of(nki_kernels.framework, (m, k), (k, n), lnc=2)
    assert found.flops == 2 * m * n * k
    assert found.flops / found.launched_s / 1e12 == pytest.approx(printed, rel=0.1)


def test_the_factor_is_that_of_the_largest_product():
    modeled_s, measured_s = 10878.7e-6, 2 * 12288 * 8192 * 8192 / 149.4e12
    assert pytest.approx((measured_s - LAUNCH_US * 1e-6) / modeled_s, abs=0.005) == MODEL_TO_MEASURED


def products(count: int, columns: int, dtype: Any = nl.bfloat16, banks: int = 1) -> Any:
    """A kernel of back-to-back products of tiles that lie in SBUF."""

    def kernel(source: Any) -> Any:
        out = nl.ndarray((128, columns), nl.float32, buffer=nl.shared_hbm)
        a, b = nl.ndarray((128, 128), dtype), nl.ndarray((128, columns), dtype)
        nisa.memset(a, 0)
        nisa.memset(b, 0)
        sums = [nl.ndarray((128, columns), nl.float32, buffer=nl.psum) for _ in range(banks)]
        for at in range(count):
            nisa.nc_matmul(sums[at % banks], a, b)
        tile = nl.ndarray((128, columns), nl.float32)
        nisa.tensor_copy(tile, sums[0])
        nisa.dma_copy(out, tile)
        return out

    return kernel


@pytest.mark.parametrize(("columns", "interval"), [(512, 512), (128, 128), (16, 64)])
def test_a_product_starts_every_so_many_cycles(columns: int, interval: int):
    for gen in GENERATIONS:
        assert of(products(10, columns), (1, 1), gen=gen).engine("tensor").cycles == 10 * interval
        assert of(products(10, columns, nl.float32), (1, 1), gen=gen).engine("tensor").cycles == 40 * interval


def test_back_to_back_products_do_not_wait_for_each_other():
    few, many = (of(products(count, 512), (1, 1)).modeled_s for count in (100, 200))
    assert many - few == pytest.approx(100 * 512 / 2.4e9, rel=1e-6)


def lane_cycles(
    instruction: Any, dtype: Any, gen: Generation = V3, engine: str = "vector", source: Any = None
) -> float:
    """Cycles that one instruction on tiles of 1000 elements adds."""

    def kernel(given: Any, run: bool) -> Any:
        out = nl.ndarray((128, 1000), dtype, buffer=nl.shared_hbm)
        a, b = nl.ndarray((128, 1000), dtype, buffer=source or nl.sbuf), nl.ndarray((128, 1000), dtype)
        nisa.dma_copy(b, given)
        if run:
            instruction(b, a)
        nisa.dma_copy(out, b)
        return out

    def cycles(run: bool) -> float:
        found = cost(kernel, (Spec((128, 1000), dtype), run), gen)
        return sum(one.cycles or 0.0 for one in found.engines if one.engine == engine)

    return cycles(True) - cycles(False)


@pytest.mark.parametrize(
    ("instruction", "dtype", "gen", "engine", "source", "cycles"),
    [
        (lambda b, a: nisa.tensor_copy(b, a), nl.float32, V3, "vector", nl.sbuf, 1000),
        (lambda b, a: nisa.tensor_copy(b, a), nl.bfloat16, V3, "vector", nl.sbuf, 250),
        (lambda b, a: nisa.tensor_copy(b, a), nl.bfloat16, V3, "vector", nl.psum, 500),
        (lambda b, a: nisa.tensor_copy(b, a), nl.bfloat16, V2, "vector", nl.sbuf, 1000),
        (lambda b, a: nisa.tensor_scalar(b, a, nl.add, 1.0), nl.bfloat16, V3, "vector", nl.sbuf, 250),
        (lambda b, a: nisa.tensor_scalar(b, a, nl.rsqrt, 0.0), nl.float32, V3, "gpsimd", nl.sbuf, 4000),
        (lambda b, a: nisa.tensor_tensor(b, b, a, nl.add), nl.float32, V3, "vector", nl.sbuf, 2000),
        (lambda b, a: nisa.tensor_tensor(b, b, a, nl.add), nl.bfloat16, V3, "vector", nl.sbuf, 1000),
        (lambda b, a: nisa.reciprocal(b, a), nl.float32, V3, "vector", nl.sbuf, 8000),
        (lambda b, a: nisa.activation(b, nl.exp, a), nl.float32, V3, "scalar", nl.sbuf, 1000),
        (lambda b, a: nisa.exponential(b, a), nl.float32, V4, "vector", nl.sbuf, 250),
        (lambda b, a: nisa.tensor_copy(b[:, :8], a[:, :8]), nl.float32, V3, "vector", nl.sbuf, 64),
        (lambda b, a: nisa.tensor_copy(b[:, :200], a[:, ::5]), nl.float32, V3, "vector", nl.sbuf, 400),
    ],
)
def test_cycles_of_the_other_engines(
    instruction: Any, dtype: Any, gen: Generation, engine: str, source: Any, cycles: float
):
    assert lane_cycles(instruction, dtype, gen, engine, source) == pytest.approx(cycles)


def test_reading_an_accumulator_costs_a_second_instruction():
    def kernel(given: Any, read: bool) -> Any:
        out = nl.ndarray((128, 1000), nl.float32, buffer=nl.shared_hbm)
        a, sums = nl.ndarray((128, 1000), nl.float32), nl.ndarray((128, 1), nl.float32)
        nisa.dma_copy(a, given)
        nisa.activation(a, nl.exp, a, reduce_op=nl.add, reduce_res=sums if read else None,
                        reduce_cmd=nisa.reduce_cmd.reset_reduce)  # fmt: skip
        nisa.dma_copy(out, a)
        return out

    read, plain = (
        cost(kernel, (Spec((128, 1000), "float32"), flag), V3).engine("scalar").cycles for flag in (True, False)
    )
    assert (read, plain) == (1064, 1000)


def copy(rows: int, columns: int, parts: int = 1) -> Any:
    """Bytes in through SBUF and out again, in pieces of a row cut in so many."""

    def kernel(source: Any) -> Any:
        out = nl.ndarray((rows, columns), source.dtype, buffer=nl.shared_hbm)
        step = columns // parts
        for row in range(0, rows, 128):
            for at in range(0, columns, step):
                tile = nl.ndarray((128, step), source.dtype)
                nisa.dma_copy(tile, source[row : row + 128, at : at + step])
                nisa.dma_copy(out[row : row + 128, at : at + step], tile)
        return out

    return kernel


@pytest.mark.parametrize("gen", GENERATIONS, ids=lambda g: g.name)
def test_large_transfers_come_near_the_rate_and_small_ones_do_not(gen: Generation):
    """dma guide: 4 KiB of a partition saturate, 2 KiB approach the rate, 256 B are a small fraction of it."""
    rates = {}
    for size in (8192, 4096, 2048, 256):
        found = of(copy(2048, 4096, parts=8192 // size), (2048, 4096), gen=gen)
        rates[size] = (found.loaded + found.stored) / found.modeled_s / 1e9 / gen.memory_gb_per_s
        assert found.descriptors == 2 * 2048 * 8192 // size
    assert 0.75 < rates[4096] < rates[8192] < 1
    assert 0.6 < rates[2048] < rates[4096]
    assert rates[256] < 0.5


def test_time_of_the_dma_engines_is_given_out_once():
    time = DmaTime(16)
    ends = [time.take(0.0, 1600.0, 16) for _ in range(50)]
    assert ends == pytest.approx([100.0 * (at + 1) for at in range(50)])
    assert time.take(0.0, 1600.0, 1) == pytest.approx(
        5100.0 + 1500.0, abs=500
    )  # one engine alone takes 16 times as long
    assert time.take(20_000.0, 160.0, 16) == pytest.approx(20_010.0)
    assert time.take(0.0, 160.0, 16) < 10_000.0  # what came later left a gap


def test_two_cores_halve_the_time():
    one, two = (of(nki_kernels.framework, (2048, 1024), (1024, 2048), lnc=lnc) for lnc in (1, 2))
    assert one.multiply_adds == two.multiply_adds
    assert 0.5 < two.modeled_s / one.modeled_s < 0.65


def test_engines_of_gen2_that_share_memory_take_turns():
    """Vector and GpSimd on SBUF (v2 guide, data movement); on gen3 they work at once."""

    def kernel(source: Any) -> Any:
        out = nl.ndarray((128, 4096), nl.float32, buffer=nl.shared_hbm)
        a, b = nl.ndarray((128, 4096), nl.float32), nl.ndarray((128, 4096), nl.float32)
        for _ in range(20):
            nisa.memset(a, 0, engine=nisa.engine.vector)
            nisa.memset(b, 0, engine=nisa.engine.gpsimd)
        nisa.dma_copy(out, a)
        return out

    def shares(gen: Generation) -> float:
        found = of(kernel, (1, 1), gen=gen)
        return found.engine("vector").busy_share + found.engine("gpsimd").busy_share

    assert shares(V2) < 1
    assert shares(V3) > 1.5


def test_memory_used_again_is_waited_for():
    """A kernel that loads into one tile over and over is slower than one that takes turns between two."""

    def kernel(buffers: int) -> Any:
        def body(source: Any) -> Any:
            out = nl.ndarray((128, 2048), nl.float32, buffer=nl.shared_hbm)
            tiles = [nl.ndarray((128, 2048), nl.float32) for _ in range(buffers)]
            result = nl.ndarray((128, 2048), nl.float32)
            for at in range(16):
                nisa.dma_copy(tiles[at % buffers], source)
                nisa.activation(result, nl.exp, tiles[at % buffers])
            nisa.dma_copy(out, result)
            return out

        return body

    one, two = (of(kernel(buffers), (128, 2048), dtype="float32").modeled_s for buffers in (1, 2))
    assert one > 1.3 * two


def test_cores_wait_for_each_other_at_a_barrier():
    """The second core has nothing to do before the barrier and ten times the other's work behind it."""

    def kernel(before: int, barrier: bool) -> Any:
        def body(source: Any) -> Any:
            out = nl.ndarray((2, 128, 4096), nl.float32, buffer=nl.shared_hbm)
            core, tile = nl.program_id(0), nl.ndarray((128, 4096), nl.float32)
            for _ in range(before if core == 0 else 1):
                nisa.memset(tile, 0)
            nisa.dma_copy(out[core], tile)
            if barrier:
                nisa.core_barrier(out, (0, 1))
                nisa.dma_copy(tile, out[1 - core])
            for _ in range(1 if core == 0 else before):
                nisa.activation(tile, nl.exp, tile)
            nisa.dma_copy(out[core], tile) if not barrier else None
            return out

        return body

    apart, together = (of(kernel(100, barrier), (1, 1), lnc=2).modeled_s for barrier in (False, True))
    each = 100 * 4096
    assert apart == pytest.approx(max(each / 0.96e9, each / 1.2e9), rel=0.2)
    assert together == pytest.approx(each / 0.96e9 + each / 1.2e9, rel=0.2)


def test_an_instruction_can_be_told_to_wait():
    """Two engines with nothing between them work at once, unless one is told to run after the other."""

    def kernel(waits: bool) -> Any:
        def body(source: Any) -> Any:
            out = nl.ndarray((2, 128, 4096), nl.float32, buffer=nl.shared_hbm)
            a, b = nl.ndarray((128, 4096), nl.float32), nl.ndarray((128, 4096), nl.float32)
            first = [nisa.memset(a, 0, engine=nisa.engine.vector) for _ in range(50)]
            second = nisa.memset(b, 0, engine=nisa.engine.gpsimd)
            if waits:
                second.depends_on(first[-1])
            for _ in range(50):
                nisa.activation(b, nl.exp, b)
            nisa.dma_copy(out[0], a)
            nisa.dma_copy(out[1], b)
            return out

        return body

    apart, together = (of(kernel(waits), (1, 1)).modeled_s for waits in (False, True))
    assert together > 1.6 * apart
