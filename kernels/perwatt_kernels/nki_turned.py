"""Transposing on the way into SBUF, by DMA."""

from __future__ import annotations

from typing import Any

from perwatt_kernels.nki_interpreter.api import nisa


def load_turned(dst: Any, src: Any) -> None:
    """``dst = src.T`` by a DMA engine, as tiles of four axes, since the compiler has refused two (docs/nki.md).

    Args:
        dst: [columns, rows] in SBUF.
        src: [rows, columns] in HBM, of 2 or 4 bytes.
    """
    nisa.dma_transpose(dst.expand_dim(1).expand_dim(1), src.expand_dim(1).expand_dim(1))
