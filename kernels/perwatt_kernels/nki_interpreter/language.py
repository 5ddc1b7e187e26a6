"""Stand-in for ``nki.language``: memory, formats, operators, loops and the launch grid (api/nki/language).

Formats and operators are attributes of this module, made of the tables in ``formats`` and ``operators``.
"""

from __future__ import annotations

from typing import Any

from perwatt_kernels.nki_interpreter.errors import NotModelled
from perwatt_kernels.nki_interpreter.formats import FORMATS
from perwatt_kernels.nki_interpreter.isa import memset
from perwatt_kernels.nki_interpreter.machine import current
from perwatt_kernels.nki_interpreter.operators import OPERATORS
from perwatt_kernels.nki_interpreter.tensor import Ds, NkiTensor

sbuf, psum, private_hbm, shared_hbm = "sbuf", "psum", "private_hbm", "shared_hbm"
hbm = private_hbm
ds = Ds


class NKIObject:
    """What classes of a kernel derive from."""


class _TileSize:
    """Limits of the generation that the kernel is compiled for (api/nki.language.tile_size)."""

    @property
    def pmax(self) -> int:
        """Partitions."""
        return current().generation.partitions

    @property
    def psum_bank_fmax(self) -> int:
        """Float32 elements of a bank in a partition."""
        return current().generation.psum_bank // 4

    @property
    def psum_bank_fmax_bytes(self) -> int:
        """Bytes of a bank in a partition."""
        return current().generation.psum_bank

    @property
    def psum_num_banks(self) -> int:
        """Banks of a partition."""
        return current().generation.psum_banks

    @property
    def gemm_stationary_fmax(self) -> int:
        """Columns of the stationary operand."""
        return current().generation.tensor.columns

    @property
    def gemm_moving_fmax(self) -> int:
        """Columns of the moving operand that every generation takes."""
        return current().generation.psum_bank // 4

    @property
    def sbuf_fmax_bytes(self) -> int:
        """Bytes of SBUF in a partition; on the device somewhat fewer, as the compiler keeps a part."""
        return current().generation.sbuf_partition

    @property
    def sbuf_size_bytes(self) -> int:
        """Bytes of SBUF."""
        return current().generation.sbuf_partition * current().generation.partitions


tile_size = _TileSize()


def ndarray(
    shape: Any, dtype: str, buffer: str = sbuf, name: str = "", address: tuple[int, int] | None = None
) -> NkiTensor:
    """Memory that nothing was written to yet.

    Raises:
        Rejected: there is no such memory, or not as much.
    """
    return current().allocate(shape, dtype, buffer, name, address)


def zeros(shape: Any, dtype: str, buffer: str = sbuf, name: str = "") -> NkiTensor:
    """The same, set to zero."""
    found = ndarray(shape, dtype, buffer, name)
    memset(found, 0)
    return found


def affine_range(start: int, stop: int | None = None, step: int = 1) -> range:
    """A loop that is unrolled when the kernel is compiled, as every loop over a ``range``."""
    return range(start) if stop is None else range(start, stop, step)


sequential_range = static_range = affine_range


def program_id(axis: int = 0) -> int:
    """Which of its cores the kernel runs on."""
    return current().index


def num_programs(axes: int = 0) -> int:
    """How many cores the kernel runs on."""
    return current().machine.lnc


def is_sbuf(buffer: str) -> bool:
    """Whether memory is SBUF."""
    return buffer == sbuf


def is_psum(buffer: str) -> bool:
    """Whether memory is PSUM."""
    return buffer == psum


def is_hbm(buffer: str) -> bool:
    """Whether memory is HBM."""
    return buffer in (private_hbm, shared_hbm)


def is_on_chip(buffer: str) -> bool:
    """Whether memory is SBUF or PSUM."""
    return buffer in (sbuf, psum)


def __getattr__(name: str) -> Any:
    if name in FORMATS:
        return name
    if name in OPERATORS:
        return OPERATORS[name]
    if name.startswith("__"):
        raise AttributeError(name)
    raise NotModelled(
        f"nl.{name} is not modelled here; use instructions of nki.isa on tiles of nl.ndarray (docs/nki.md)"
    )
