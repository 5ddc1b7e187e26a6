"""Memory: placement, capacity, views, and reading what nobody wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from perwatt_kernels.nki_interpreter import api
from perwatt_kernels.nki_interpreter.api import nisa, nl
from support.nki import BF16, load, on_tiles, refuse, simulate, store, values

pytestmark = pytest.mark.skipif(
    api.real(), reason="the real simulator has no capacity and no marks of what was written"
)
A = values(128, 64)


@pytest.mark.parametrize("dtype", [nl.float32, nl.bfloat16, nl.int32, nl.uint8])
def test_reading_what_was_never_written(dtype: Any):
    def part(rows: int) -> Any:
        def body(x: Any) -> Any:
            tile = nl.ndarray((128, 64), dtype)
            nisa.memset(tile[:rows], 1)
            return tile

        return on_tiles(body)

    assert simulate(part(128), A).shape == (128, 64)
    refuse(part(96), "2048 of 8192 elements of .* were never written", A)


def test_values_that_are_nan_are_written():
    assert np.isnan(simulate(on_tiles(lambda x: x), A * np.nan)).all()


@pytest.mark.parametrize(("target", "kib"), [("trn1", 192), ("trn2", 224), ("trn3", 256)])
def test_capacity_of_sbuf(target: str, kib: int):
    def fill(extra: int) -> Any:
        def kernel(source: Any) -> Any:
            held = [nl.ndarray((128, 8192), nl.uint8) for _ in range(kib // 8 - 1)]
            held.append(nl.ndarray((1, 8192 - 256 + extra), nl.uint8))
            return store(load(source))

        return kernel

    assert simulate(fill(0), A, target=target).shape == A.shape
    refuse(fill(1), "sbuf: .*found 256 B of each partition, expected at most 255 B", A, target=target)


def test_memory_that_is_out_of_reach_is_used_again():
    def kernel(source: Any) -> Any:
        for _ in range(50):
            tile = nl.ndarray((128, 100 * 1024), nl.uint8)
            nisa.memset(tile[:, 0:64], 1)
            del tile
        return store(load(source))

    assert simulate(kernel, A).shape == A.shape


def test_psum_has_eight_banks():
    def fill(banks: int) -> Any:
        def kernel(source: Any) -> Any:
            held = [nl.ndarray((128, 4), nl.float32, buffer=nl.psum) for _ in range(banks - 2)]
            held.append(nl.ndarray((128, 1024), nl.float32, buffer=nl.psum))
            return store(load(source))

        return kernel

    assert simulate(fill(8), A).shape == A.shape
    refuse(fill(9), "psum: .*found 2 banks", A)


def test_a_bank_can_be_asked_for_and_belongs_to_one():
    def kernel(first: int, second: int) -> Any:
        def body(x: Any) -> Any:
            tiles = [nl.ndarray((128, 64), nl.float32, buffer=nl.psum, address=(0, at)) for at in (first, second)]
            nisa.tensor_copy(tiles[1], x)
            return tiles[1]

        return on_tiles(body)

    assert simulate(kernel(0, 2048), A).shape == A.shape
    refuse(kernel(0, 0), "bank 0", A)
    refuse(kernel(0, 100), "the start of a bank", A)


@pytest.mark.parametrize(
    ("shape", "dtype", "buffer", "message"),
    [
        ((129, 4), nl.float32, nl.sbuf, "129 partitions, expected at most 128"),
        ((128,), nl.float32, nl.sbuf, "the partition axis and a free one"),
        ((128, 0), nl.float32, nl.sbuf, "expected positive sizes"),
        ((128, 4), "float64", nl.sbuf, "found 'float64'"),
        ((128, 4), nl.float32, "dram", "found buffer 'dram'"),
    ],
)
def test_ndarray_refuses(shape: Any, dtype: Any, buffer: Any, message: str):
    refuse(lambda source: nl.ndarray(shape, dtype, buffer=buffer), message, A)


@pytest.mark.parametrize(("start", "count", "ok"), [(0, 128, True), (64, 64, True), (32, 32, True), (96, 20, True),
                                                    (32, 64, False), (16, 16, False), (32, 65, False)])  # fmt: skip
def test_where_operands_start(start: int, count: int, ok: bool):
    def body(x: Any) -> Any:
        dst = nl.ndarray((count, 64), nl.float32)
        nisa.tensor_copy(dst, x[start : start + count])
        return dst

    if ok:
        np.testing.assert_array_equal(simulate(on_tiles(body), A), A[start : start + count])
    else:
        refuse(on_tiles(body), f"found {count} partitions from {start}", A)


def test_transfers_start_anywhere():
    def kernel(source: Any) -> Any:
        tile = load(source)
        out = nl.ndarray((5, 64), nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(out, tile[7:12])
        return out

    np.testing.assert_array_equal(simulate(kernel, A), A[7:12])


def test_an_operand_has_at_most_four_free_axes():
    def body(x: Any) -> Any:
        dst = nl.ndarray(x.shape, nl.float32)
        nisa.tensor_copy(dst, x.reshape((128, 2, 2, 2, 2, 4)))
        return dst

    refuse(on_tiles(body), "5 free axes, expected at most 4", A)


def test_elements_of_an_operand_are_limited():
    def body(x: Any) -> Any:
        tile = nl.ndarray((1, 64 * 1024 + 1), nl.uint8)
        nisa.memset(tile, 1)
        return x

    refuse(on_tiles(body), "65537 elements of a partition, expected at most 65536", A)


VIEWS = [
    (lambda t: t[:, 8:40:4], lambda a: a[:, 8:40:4]),
    (lambda t: t[..., 5], lambda a: a[:, 5:6]),
    (lambda t: t[:, -8:], lambda a: a[:, -8:]),
    (lambda t: t[:, nl.ds(8, 16)], lambda a: a[:, 8:24]),
    (lambda t: t.reshape((128, 8, 8)).permute((0, 2, 1)), lambda a: a.reshape(128, 8, 8).transpose(0, 2, 1)),
    (lambda t: t.reshape_dim(1, (4, -1))[:, 1], lambda a: a.reshape(128, 4, 16)[:, 1]),
    (lambda t: t.reshape((128, 8, 8)).flatten_dims(1, 2), lambda a: a),
    (lambda t: t[:, 0:1].broadcast(1, 6), lambda a: np.repeat(a[:, :1], 6, 1)),
    (lambda t: t.expand_dim(1).squeeze_dim(1), lambda a: a),
    (lambda t: t.slice(1, 3, 9).select(1, 2), lambda a: a[:, 5:6]),
    (lambda t: t.ap([[64, 128], [2, 32]], offset=1), lambda a: a[:, 1::2]),
    (lambda t: t.view(nl.uint16), lambda a: a.view(np.uint16)),
    (lambda t: t.view(nl.uint8)[:, 4:12].view(nl.float32), lambda a: a[:, 1:3]),
]


@pytest.mark.parametrize(("of_tile", "of_array"), VIEWS)
def test_views_are_those_of_numpy(of_tile: Any, of_array: Any):
    def body(x: Any) -> Any:
        seen = of_tile(x)
        dst = nl.ndarray(seen.shape, seen.dtype)
        nisa.tensor_copy(dst, seen)
        return dst

    np.testing.assert_array_equal(simulate(on_tiles(body), A), of_array(A))


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (lambda t: t[:, 60:70], "found 60:70:None of 64"),
        (lambda t: t[:, 64], "found 64, expected 0 to 63"),
        (lambda t: t[0, 0, 0], "3 indices, expected at most 2"),
        (lambda t: t[:, 1.5], "found float"),
        (lambda t: t.permute((1, 0)), "the partition first"),
        (lambda t: t.reshape((64, 128)), "as many elements, and partitions"),
        (lambda t: t[:, 0:32].reshape((128, 4, 8))[:, :, 0:4].reshape((128, 16)), "elements without a gap"),
        (lambda t: t.broadcast(1, 4), "a free axis of length 1"),
        (lambda t: t[0:1].broadcast(0, 4), "a free axis of length 1"),
        (lambda t: t.ap([[32, 128], [1, 32]]), "partition stride 32, expected 64"),
        (lambda t: t[:, 0:3].view(nl.uint8)[:, 0:3].view(nl.float32), "whole elements"),
        (lambda t: t.__setitem__(0, 1), "assignment to a tensor"),
        (lambda t: list(t), "iteration over a tensor"),
    ],
)
def test_views_that_there_are_not(view: Any, message: str):
    refuse(lambda source: store(view(load(source))), message, A)


def test_results_lie_in_shared_memory():
    refuse(lambda source: load(source), "result: found sbuf, expected a tensor in shared_hbm", A)
    refuse(lambda source: 3, "result: found 3", A)


def test_an_argument_that_is_written_to_changes():
    def kernel(source: Any) -> Any:
        tile = load(source)
        nisa.tensor_scalar(tile, tile, nl.add, 1.0)
        nisa.dma_copy(source, tile)
        return source

    given = A.astype(BF16)
    np.testing.assert_array_equal(simulate(kernel, given), given)
    assert (given != A.astype(BF16)).any()


def test_formats_that_nki_has_not():
    refuse(lambda source: store(load(source)), "found float64, which NKI has not", A.astype(np.float64))
