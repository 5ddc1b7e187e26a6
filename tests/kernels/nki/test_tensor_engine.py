"""``nc_matmul`` and ``nc_transpose``: what they compute and what they refuse."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from perwatt_kernels.nki_interpreter.api import nisa, nl
from support.nki import BF16, load, on_tiles, refuse, simulate, store, values

E4M3, E4M3FN, E5M2 = ml_dtypes.float8_e4m3, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
DOUBLE = {"perf_mode": nisa.matmul_perf_mode.double_row}


def product(a: Any, b: Any, dtype: Any = None, **options: Any) -> Any:
    dst = nl.ndarray((a.shape[-1], b.shape[-1]), dtype or nl.float32, buffer=nl.psum)
    nisa.nc_matmul(dst, a, b, **options)
    return dst


@pytest.mark.parametrize("dtype", [BF16, np.float16, np.float32, E4M3, E5M2], ids=lambda d: np.dtype(d).name)
def test_a_product_is_that_of_numpy(dtype: Any):
    a, b = values(96, 64, dtype=dtype), values(96, 200, dtype=dtype)
    found = simulate(on_tiles(product), a, b)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, a.astype(np.float64).T @ b.astype(np.float64), rtol=1e-4, atol=1e-4)


def test_two_8_bit_formats_may_differ():
    a, b = values(32, 16, dtype=E4M3), values(32, 16, dtype=E5M2)
    expected = a.astype(np.float64).T @ b.astype(np.float64)
    np.testing.assert_allclose(simulate(on_tiles(product), a, b), expected, rtol=1e-4, atol=1e-4)


def test_double_row_multiplies_256_rows():
    a, b = values(128, 2, 32, dtype=E4M3), values(128, 2, 96, dtype=E5M2)
    found = simulate(on_tiles(lambda x, y: product(x, y, **DOUBLE)), a, b)
    expected = np.einsum("pim,pin->mn", a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_gen4_writes_bfloat16_and_more_than_a_bank():
    a, b = values(32, 16, dtype=BF16), values(32, 4096, dtype=BF16)
    found = simulate(on_tiles(lambda x, y: product(x, y, nl.bfloat16)), a, b, target="trn3")
    assert found.dtype == BF16
    np.testing.assert_allclose(
        found.astype(np.float32), (a.astype(np.float32).T @ b.astype(np.float32)).astype(BF16).astype(np.float32)
    )


@pytest.mark.parametrize("flags", [(None, None, None), (False, True, True)])
def test_products_add_up_in_psum(flags: tuple[Any, ...]):
    a, b = values(3, 64, 32), values(3, 64, 48)

    def kernel(x: Any, y: Any) -> Any:
        dst = nl.ndarray((32, 48), nl.float32, buffer=nl.psum)
        for at, flag in enumerate(flags):
            nisa.nc_matmul(dst, load(x[at]), load(y[at]), accumulate=flag)
        return store(dst)

    np.testing.assert_allclose(simulate(kernel, a, b), np.einsum("kpm,kpn->mn", a, b), rtol=1e-4, atol=1e-4)


def test_accumulate_false_starts_afresh():
    a, b = values(2, 64, 32), values(2, 64, 48)

    def kernel(x: Any, y: Any) -> Any:
        dst = nl.ndarray((32, 48), nl.float32, buffer=nl.psum)
        for at in range(2):
            nisa.nc_matmul(dst, load(x[at]), load(y[at]), accumulate=False)
        return store(dst)

    np.testing.assert_allclose(simulate(kernel, a, b), a[1].T @ b[1], rtol=1e-4, atol=1e-4)


REFUSALS = [
    ("rows", "trn2", (np.float32, (96, 8), (64, 8)), {}, "96 and 64 partitions"),
    ("columns of the stationary", "trn2", (BF16, (64, 129), (64, 8)), {}, "129 columns|129 partitions"),
    ("columns of the moving", "trn2", (BF16, (64, 64), (64, 640)), {}, "640 columns, expected at most 512 on gen3"),
    ("pair of formats", "trn2", ((BF16, np.float32), (64, 8), (64, 8)), {}, "bfloat16 with float32"),
    ("integers", "trn2", (np.int32, (64, 8), (64, 8)), {}, "found int32"),
    ("e4m3fn before gen4", "trn2", (E4M3FN, (64, 8), (64, 8)), {}, "found float8_e4m3fn"),
    ("both kinds of e4m3", "trn3", ((E4M3, E4M3FN), (64, 8), (64, 8)), {}, "one kind of e4m3"),
    ("double_row on gen2", "trn1", (E4M3, (64, 2, 8), (64, 2, 8)), DOUBLE, "double_row on gen2"),
    ("double_row of 16 bits", "trn2", (BF16, (64, 2, 8), (64, 2, 8)), DOUBLE, "found bfloat16"),
    ("double_row without its axis", "trn2", (E4M3, (64, 8), (64, 8)), DOUBLE, r"8-bit floats \[k, 2, free\]"),
    ("half of a tile", "trn2", (BF16, (64, 8), (64, 8)), {"tile_size": (64, 128)}, "both, or neither"),
    ("tile of 32 rows on gen2", "trn1", (BF16, (32, 8), (32, 8)),
     {"tile_size": (32, 128), "tile_position": (0, 0)}, "64/128"),
    ("tile at an odd row", "trn2", (BF16, (32, 8), (32, 8)),
     {"tile_size": (32, 128), "tile_position": (16, 0)}, "multiple of 32"),
    ("more rows than the tile", "trn2", (BF16, (64, 8), (64, 8)),
     {"tile_size": (32, 128), "tile_position": (0, 0)}, "at most 32"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "operands", "options", "message"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS]
)
def test_nc_matmul_refuses(target: str, operands: Any, options: Any, message: str):
    dtypes, *shapes = operands
    pair = dtypes if isinstance(dtypes, tuple) else (dtypes, dtypes)
    a, b = (values(*shape, dtype=dtype) for shape, dtype in zip(shapes, pair, strict=True))
    refuse(on_tiles(lambda x, y: product(x, y, **options)), message, a, b, target=target)


def test_operands_lie_in_sbuf_and_results_in_psum():
    def result_in_sbuf(x: Any, y: Any) -> Any:
        dst = nl.ndarray((32, 32), nl.float32, buffer=nl.sbuf)
        nisa.nc_matmul(dst, x, y)
        return dst

    a = values(64, 32)
    refuse(on_tiles(result_in_sbuf), "dst: found a tensor in sbuf", a, a)
    refuse(lambda x: store(product(load(x, nl.psum), load(x))), "stationary: found a tensor in psum", a)
    refuse(lambda x: store(product(x, load(x))), "stationary: found a tensor in shared_hbm", a)
    refuse(on_tiles(lambda x: product(x, x, nl.bfloat16)), "dst: found bfloat16, expected float32 on gen3", a)


def test_a_result_lies_in_one_bank():
    """[32, 3, 300] float32 begin at bytes 0, 1200 and 2400 of a partition; the second reaches into another bank."""
    a, b = values(64, 32), values(64, 300)

    def kernel(place: int) -> Any:
        def body(x: Any, y: Any) -> Any:
            dst = nl.ndarray((32, 3, 300), nl.float32, buffer=nl.psum)
            nisa.nc_matmul(dst[:, place], x, y)
            return dst[:, place]

        return on_tiles(body)

    assert simulate(kernel(0), a, b).shape == (32, 300)
    refuse(kernel(1), "bytes 1200 to 2399 of a partition, expected one bank of 2048", a, b)
    assert simulate(kernel(1), a, b, target="trn3").shape == (32, 300)


def test_what_products_may_be_added_to():
    def onto(fill: Any, flag: Any) -> Any:
        def body(x: Any, y: Any) -> Any:
            dst = nl.ndarray((32, 48), nl.float32, buffer=nl.psum)
            fill(dst)
            nisa.nc_matmul(dst, x, y, accumulate=flag)
            return dst

        return on_tiles(body)

    a, b = values(64, 32), values(64, 48)
    refuse(onto(lambda dst: None, True), "onto what was never written", a, b)
    for flag in (True, None):
        refuse(onto(lambda dst: nisa.memset(dst, 1.0), flag), "onto what a copy or memset wrote", a, b)
    np.testing.assert_allclose(
        simulate(onto(lambda dst: nisa.memset(dst, 1.0), True), a, b, target="trn3"), a.T @ b + 1, rtol=1e-4, atol=1e-4
    )
    refuse(onto(lambda dst: nisa.memset(dst[:, :8], 1.0), None), "accumulate=None has no meaning", a, b, target="trn3")


@pytest.mark.parametrize("dtype", [BF16, np.float32])
@pytest.mark.parametrize(("shape", "buffer"), [((128, 64), nl.psum), ((32, 16), nl.sbuf)])
def test_a_transpose_is_exact(dtype: Any, shape: tuple[int, int], buffer: Any):
    a = values(*shape, dtype=dtype)
    a[3, 5], a[4, 6] = np.nan, np.inf

    def body(x: Any) -> Any:
        dst = nl.ndarray((shape[1], shape[0]), x.dtype, buffer=buffer)
        nisa.nc_transpose(dst, x)
        return dst

    np.testing.assert_array_equal(simulate(on_tiles(body), a).astype(np.float32), a.T.astype(np.float32))


def transposed(buffer: Any = nl.psum, dtype: Any = None, engine: Any = nisa.engine.tensor) -> Any:
    def body(x: Any) -> Any:
        dst = nl.ndarray((x.shape[1], x.shape[0]), dtype or x.dtype, buffer=buffer)
        nisa.nc_transpose(dst, x, engine=engine)
        return dst

    return on_tiles(body)


@pytest.mark.parametrize(
    ("kernel", "shape", "target", "message"),
    [
        (transposed(nl.sbuf), (64, 64), "trn2", "sbuf to sbuf, expected sbuf to psum"),
        (transposed(dtype=nl.bfloat16), (64, 64), "trn2", "found bfloat16, expected float32"),
        (transposed(engine=nisa.engine.vector), (64, 64), "trn2", r"at most \[32, 32\]"),
        (transposed(engine=nisa.engine.scalar), (16, 16), "trn2", "found scalar, expected tensor or vector"),
    ],
    ids=["placement", "format", "size on vector", "engine"],
)
def test_nc_transpose_refuses(kernel: Any, shape: tuple[int, int], target: str, message: str):
    refuse(kernel, message, values(*shape), target=target)


def test_gen2_transposes_no_infinities():
    a = values(64, 64)
    assert simulate(transposed(), a, target="trn1").shape == (64, 64)
    a[0, 0] = np.inf
    refuse(transposed(), "NaN or infinity on gen2", a, target="trn1")


def test_transpose_mode_needs_an_identity_and_keeps_the_format():
    a, eye = values(64, 32, dtype=BF16), np.eye(64, dtype=BF16)

    def body(x: Any, one: Any) -> Any:
        return product(x, one, x.dtype, is_transpose=True)

    np.testing.assert_array_equal(simulate(on_tiles(body), a, eye), a.T)
    refuse(on_tiles(body), "needs an identity matrix", a, eye * 2)
    refuse(on_tiles(lambda x, one: product(x, one, is_transpose=True)), "expected bfloat16", a, eye)
