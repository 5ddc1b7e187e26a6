"""``dma_copy`` and ``dma_transpose``: what they move and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from perwatt_kernels.nki_interpreter import api
from perwatt_kernels.nki_interpreter.api import nisa, nl
from perwatt_kernels.nki_interpreter.hardware import V3
from support.nki import BF16, load, on_tiles, refuse, simulate, store, values

MODE, ENGINE = nisa.dge_mode, nisa.engine
A = values(64, 48)


def copied(dtype: Any = None, shape: Any = None, buffer: Any = nl.sbuf, **options: Any) -> Any:
    def kernel(source: Any) -> Any:
        tile = nl.ndarray(shape or source.shape, dtype or source.dtype, buffer=buffer)
        nisa.dma_copy(tile, source, **options)
        return store(tile)

    return kernel


@pytest.mark.parametrize("dtype", [nl.float32, nl.bfloat16, nl.float8_e5m2])
def test_a_copy_casts(dtype: Any):
    found = simulate(copied(dtype), A)
    np.testing.assert_array_equal(found, A.astype(found.dtype))
    assert str(found.dtype).startswith(str(dtype)[:6])


def test_a_copy_within_hbm():
    def kernel(source: Any) -> Any:
        out = nl.ndarray(source.shape, source.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(out, source)
        return out

    np.testing.assert_array_equal(simulate(kernel, A), A)


@pytest.mark.parametrize(
    ("kernel", "target", "message"),
    [
        (copied(shape=(64, 47)), "trn2", "3008 elements, expected 3072"),
        (copied(buffer=nl.psum), "trn2", "found a tensor in psum"),
        (copied(dge_mode=MODE.hwdge), "trn1", "hwdge on gen2"),
        (copied(priority=1), "trn2", "1 on gen3, expected 0 to 3 on gen4"),
        (copied(priority=4), "trn3", "4 on gen4"),
        (copied(engine=ENGINE.sync), "trn2", "with dge_mode hwdge"),
        (copied(engine=ENGINE.vector, dge_mode=MODE.hwdge), "trn2", "found vector, expected sync or scalar"),
    ],
)
def test_dma_copy_refuses(kernel: Any, target: str, message: str):
    refuse(kernel, message, A, target=target)


def turned(shape: Any = None, **options: Any) -> Any:
    def kernel(source: Any) -> Any:
        dst = nl.ndarray(shape or source.shape[::-1], source.dtype)
        nisa.dma_transpose(dst, source, **options)
        return store(dst)

    return kernel


def test_dma_transpose():
    np.testing.assert_array_equal(simulate(turned(), A), A.T)
    wide = values(4, 8, 32, dtype=BF16)
    np.testing.assert_array_equal(simulate(turned(axes=(2, 1, 0)), wide), wide.transpose(2, 1, 0))
    np.testing.assert_array_equal(simulate(turned(dge_mode=MODE.hwdge), values(16, 48, dtype=BF16)).shape, (48, 16))


@pytest.mark.parametrize(
    ("kernel", "array", "target", "message"),
    [
        (turned(), A, "trn1", "found gen2, expected gen3 or newer"),
        (turned(axes=(0, 1)), A, "trn2", "axes: found"),
        (turned(shape=(64, 48)), A, "trn2", "expected \\(48, 64\\)"),
        (turned(), A.astype(np.int8), "trn2", "the same 2 or 4 bytes"),
        (turned(dge_mode=MODE.swdge), A, "trn2", "found swdge, expected unknown or hwdge"),
        (turned(dge_mode=MODE.hwdge), A.astype(BF16), "trn2", "16 rows"),
        (turned(dge_mode=MODE.hwdge), A[:16], "trn2", "2 bytes"),
    ],
)
def test_dma_transpose_refuses(kernel: Any, array: Any, target: str, message: str):
    refuse(kernel, message, array, target=target)


@pytest.mark.skipif(api.real(), reason="counts what the stand-ins record")
def test_what_a_transfer_is_counted_as():
    from perwatt_kernels.nki_interpreter.launch import Spec, interpret

    def kernel(source: Any) -> Any:
        tile = load(source[0:64, 0:512])
        return store(tile)

    loading, storing = interpret(kernel, (Spec((128, 1024), "bfloat16"),), {}, V3).streams[0]
    assert (loading.work.loaded, loading.work.stored, loading.work.pieces) == (64 * 1024, 0, 64)
    assert (storing.work.loaded, storing.work.stored, storing.work.pieces) == (0, 64 * 1024, 64)
    assert loading.work.engines == 8  # eight partitions each
    assert storing.after == (0,)


def test_a_tile_is_the_whole_of_its_kernel():
    np.testing.assert_array_equal(simulate(on_tiles(lambda x: x), A), A)
