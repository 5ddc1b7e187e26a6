"""Running small NKI kernels: on the stand-ins, or on the real ``nki.simulate`` where that is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from perwatt_kernels.nki_interpreter import api
from perwatt_kernels.nki_interpreter.api import nisa, nki, nl
from perwatt_kernels.nki_interpreter.errors import Rejected

REFUSED: Any = Exception if api.real() else Rejected
BF16 = ml_dtypes.bfloat16


def values(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def load(source: Any, buffer: Any = None) -> Any:
    """A tile with the values of a tensor in HBM; in PSUM by way of SBUF."""
    tile = nl.ndarray(source.shape, source.dtype, buffer=nl.sbuf)
    nisa.dma_copy(tile, source)
    if buffer != None and buffer != nl.sbuf:  # noqa: E711 - the compiler has no `is`
        copy = nl.ndarray(source.shape, source.dtype, buffer=buffer)
        nisa.tensor_copy(copy, tile)
        return copy
    return tile


def store(tile: Any) -> Any:
    """An output with the values of a tile; from PSUM by way of SBUF."""
    out = nl.ndarray(tile.shape, tile.dtype, buffer=nl.shared_hbm)
    if tile.buffer == nl.psum:
        copy = nl.ndarray(tile.shape, tile.dtype, buffer=nl.sbuf)
        nisa.tensor_copy(copy, tile)
        tile = copy
    nisa.dma_copy(out, tile)
    return out


def simulate(body: Callable[..., Any], *arrays: Any, target: str = "trn2", lnc: int = 1) -> Any:
    """Results of a kernel; the arrays are its arguments in HBM."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", target)
        return nki.simulate(nki.jit(body)[lnc])(*arrays)


def on_tiles(body: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that loads its arguments, hands the tiles to a body, and stores the tile it returns."""

    def kernel(*sources: Any) -> Any:
        return store(body(*[load(source) for source in sources]))

    return kernel


def refuse(body: Callable[..., Any], message: str, *arrays: Any, target: str = "trn2", lnc: int = 1) -> None:
    """Expect a kernel to be refused; the stand-ins also say so in these words."""
    with pytest.raises(REFUSED, match=None if api.real() else message):
        simulate(body, *arrays, target=target, lnc=lnc)
