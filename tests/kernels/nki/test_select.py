"""Patterns, masks and selections: what they compute and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from perwatt_kernels.nki_interpreter.api import nisa, nl
from support.nki import BF16, load, on_tiles, refuse, simulate, store, values

LOWEST = np.float32(-3.4028235e38)
A = values(32, 24)


def pattern(*args: Any, dtype: Any = nl.int32, buffer: Any = nl.sbuf, **options: Any) -> Any:
    def body(x: Any) -> Any:
        dst = nl.ndarray((32, 24), dtype, buffer=buffer)
        nisa.iota(dst, *args, **options)
        return dst

    return on_tiles(body)


def test_iota_counts_along_partitions_and_free_axes():
    found = simulate(pattern([[100, 4], [1, 6]], offset=7, channel_multiplier=-3), A)
    p, w, x = np.ogrid[:32, :4, :6]
    np.testing.assert_array_equal(found, (7 - 3 * p + 100 * w + x).reshape(32, 24))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (pattern([[1, 23]]), "23 elements, expected 24"),
        (pattern([[1, 24]], buffer=nl.psum), "found a tensor in psum"),
        (pattern([[1, 24]], offset=1.5), "expected an int32"),
        (pattern([[1, 2], [1, 2], [1, 2], [1, 3], [1, 1]]), "one to four pairs"),
    ],
)
def test_iota_refuses(kernel: Any, message: str):
    refuse(kernel, message, A)


def affine(*args: Any, **options: Any) -> Any:
    def body(x: Any, *more: Any) -> Any:
        dst = nl.ndarray(x.shape, x.dtype)
        nisa.affine_select(dst, *args[:2], x, *args[2:], **options)
        return dst

    return on_tiles(body)


def test_affine_select_masks_what_is_ahead():
    """Query p sees keys 0 to p: the causal mask."""
    found = simulate(affine([[-1, 24]], 1, -9.0, cmp_op=nl.greater_equal), A)
    np.testing.assert_array_equal(found, np.where(np.arange(32)[:, None] >= np.arange(24), A, -9))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (affine([[-1, 24]], 1, -9.0, cmp_op=nl.add), "expected a comparison"),
        (affine([[-1, 12]], 1, -9.0), "12 elements, expected 24"),
    ],
)
def test_affine_select_refuses(kernel: Any, message: str):
    refuse(kernel, message, A)


def test_affine_select_has_no_access_to_psum():
    def kernel(source: Any) -> Any:
        x, dst = load(source, nl.psum), nl.ndarray(source.shape, source.dtype)
        nisa.affine_select(dst, [[1, 24]], 0, x, 0.0)
        return store(dst)

    refuse(kernel, "on_true_tile: found a tensor in psum", A)


def ranged(dtype: Any = None, result: bool = False, **options: Any) -> Any:
    def body(x: Any, low: Any, high: Any) -> Any:
        dst, found = nl.ndarray(x.shape, dtype or x.dtype), nl.ndarray((x.shape[0], 1), nl.float32)
        given = {"comp_op0": nl.greater_equal, "comp_op1": nl.less, "reduce_res": found if result else None} | options
        nisa.range_select(dst, x, bound0=low, bound1=high, **given)
        return found if result else dst

    return on_tiles(body)


LOW, HIGH = np.full((32, 1), 2, np.float32), np.arange(32, dtype=np.float32)[:, None]


def test_range_select_keeps_a_range_of_each_row():
    index = np.arange(24) + 5
    expected = np.where((index >= LOW) & (index < HIGH), A, LOWEST)
    np.testing.assert_array_equal(simulate(ranged(range_start=5), A, LOW, HIGH), expected)
    np.testing.assert_array_equal(simulate(ranged(range_start=5, result=True), A, LOW, HIGH)[:, 0], expected.max(1))


def test_range_select_of_16_bits_fills_with_minus_infinity():
    found = simulate(ranged(dtype=nl.bfloat16), A, LOW, HIGH * 0)
    assert np.isneginf(found.astype(np.float32)).all()


@pytest.mark.parametrize(
    ("kernel", "arrays", "target", "message"),
    [
        (ranged(), (A, LOW, HIGH), "trn1", "found gen2, expected gen3 or newer"),
        (ranged(on_false_value=0.0), (A, LOW, HIGH), "trn2", "expected -3.4028235e[+]38"),
        (ranged(comp_op0=nl.not_equal), (A, LOW, HIGH), "trn2", "found nl.not_equal"),
        (ranged(reduce_op=nl.add), (A, LOW, HIGH), "trn2", "found add, expected nl.maximum"),
        (ranged(), (A, LOW.astype(BF16), HIGH), "trn2", "bound0: found bfloat16"),
        (ranged(), (A.astype(np.int32), LOW, HIGH), "trn2", "a floating-point format"),
        (ranged(range_start=2**24), (A, LOW, HIGH), "trn2", "indices below 16777216"),
    ],
)
def test_range_select_refuses(kernel: Any, arrays: Any, target: str, message: str):
    refuse(kernel, message, *arrays, target=target)


MASK = (values(32, 24, dtype=np.float32) > 0.1).astype(np.uint8)


def selected(reverse: bool = False, **options: Any) -> Any:
    def body(x: Any, mask: Any, *more: Any) -> Any:
        dst = nl.ndarray(x.shape, x.dtype)
        nisa.select_reduce(dst, mask, x, more[0] if more else -1.0, reverse_pred=reverse, **options)
        return dst

    return on_tiles(body)


def test_select_reduce_selects():
    np.testing.assert_array_equal(simulate(selected(), A, MASK), np.where(MASK, A, -1))
    np.testing.assert_array_equal(simulate(selected(reverse=True), A, MASK, LOW), np.where(MASK, LOW, A))


@pytest.mark.parametrize(
    ("kernel", "arrays", "message"),
    [
        (selected(), (A, MASK.astype(np.float32)), "predicate: found float32"),
        (selected(), (A.astype(np.int32), MASK), "on_true: found int32"),
        (selected(reduce_op=nl.add), (A, MASK), "expected nl.maximum"),
        (selected(reduce_cmd=nisa.reduce_cmd.load_reduce), (A, MASK), "found load_reduce"),
    ],
)
def test_select_reduce_refuses(kernel: Any, arrays: Any, message: str):
    refuse(kernel, message, *arrays)


def predicated(clear: bool = True, dtype: Any = None) -> Any:
    def body(x: Any, mask: Any) -> Any:
        dst = nl.ndarray(x.shape, dtype or x.dtype)
        if clear:
            nisa.memset(dst, 4.0)
        nisa.tensor_copy_predicated(dst, x, mask)
        return dst

    return on_tiles(body)


def test_tensor_copy_predicated_leaves_the_rest():
    np.testing.assert_array_equal(simulate(predicated(), A, MASK), np.where(MASK, A, 4))


@pytest.mark.parametrize(
    ("kernel", "arrays", "message"),
    [
        (predicated(clear=False), (A, MASK), "were never written"),
        (predicated(dtype=nl.bfloat16), (A, MASK), "src: found float32, expected bfloat16"),
        (predicated(), (A, MASK.astype(np.int8)), "predicate: found int8"),
    ],
)
def test_tensor_copy_predicated_refuses(kernel: Any, arrays: Any, message: str):
    refuse(kernel, message, *arrays)
