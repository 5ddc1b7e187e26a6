"""What the products in NKI cost: kernels for ``perwatt kernels cost``."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from perwatt_kernels.matmul import nki_limits as limits
from perwatt_kernels.nki_interpreter.costed import Costed

SCALE_BLOCK = 32  # elements of the depth that share a scale of MXFP8
TILE, BLOCK = 128, 512  # rows and depth, and columns, of one product of the tensor engine
RESULT = 2  # bytes of an element of the result of 8-bit operands, which is bfloat16


def _name(product: str) -> str:
    return "matmul" if product == "fwd" else f"matmul_{product}"


def _instructions(product: str, sizes: Mapping[str, int], rate: int = 1) -> int:
    """Products of the tensor engine, which takes ``rate`` tiles of the depth at once."""
    rows, columns, depth = limits.extents(product, sizes)
    return -(-rows // TILE) * -(-columns // BLOCK) * -(-depth // (rate * TILE))


def _plain(product: str) -> Costed:
    """Operands of 16 or 32 bits."""

    def build(sizes: Mapping[str, int], dtype: str, lnc: int) -> tuple[Any, tuple[Any, ...]]:
        from perwatt_kernels.matmul.nki_kernel import matmul
        from perwatt_kernels.nki_interpreter.launch import Kernel, Spec

        left, right = limits.shapes(product, sizes)
        return Kernel(matmul, lnc), (Spec(left, dtype), Spec(right, dtype), *limits.TURNED[product])

    return Costed(
        operation=_name(product), impl="nki", workload="gemm", extents=("m", "n", "k"), formats=limits.FORMATS,
        build=build, params={"product": product},
        unsupported=lambda sizes, gen, size: limits.unsupported(product, sizes, gen, size),
        useful=lambda sizes: prod(sizes.values()), instructions=lambda sizes: _instructions(product, sizes),
        compulsory=lambda s, size: size * (s["m"] * s["k"] + s["k"] * s["n"] + s["m"] * s["n"]),
    )  # fmt: skip


def _fp8(product: str, scaling: str, ieee: bool) -> Costed:
    """8-bit operands that arrive quantized, with scales by tensor or by row."""
    dtype, suffix = ("float8_e4m3", "_ieee") if ieee else ("float8_e4m3fn", "")

    def build(sizes: Mapping[str, int], dtype: str, lnc: int) -> tuple[Any, tuple[Any, ...]]:
        from perwatt_kernels.matmul.nki_fp8_kernel import matmul_fp8
        from perwatt_kernels.nki_interpreter.launch import Kernel, Spec

        left, right = limits.shapes(product, sizes)
        rows, columns, _ = limits.extents(product, sizes) if scaling == "row" else (1, 1, 1)
        scales = Spec((rows, 1), "float32"), Spec((1, columns), "float32")
        return Kernel(matmul_fp8, lnc), (Spec(left, dtype), Spec(right, dtype), *scales, *limits.TURNED[product])

    def compulsory(sizes: Mapping[str, int], size: int) -> int:
        rows, columns, depth = limits.extents(product, sizes)
        scales = rows + columns if scaling == "row" else 2
        return size * depth * (rows + columns) + 4 * scales + RESULT * rows * columns

    return Costed(
        operation=_name(product), impl=f"nki_fp8_{scaling}{suffix}", workload="gemm", extents=("m", "n", "k"),
        formats={f"fp8_{scaling}{suffix}_outside": dtype}, build=build, params={"product": product}, rate=2,
        unsupported=lambda sizes, gen, size: limits.unsupported_fp8(product, sizes, gen, dtype),
        useful=lambda sizes: prod(sizes.values()), compulsory=compulsory,
        instructions=lambda sizes: _instructions(product, sizes, rate=2),
    )  # fmt: skip


def _mx(product: str, outside: bool) -> Costed:
    """MXFP8, operands quantized before or on the chip."""
    formats = {"mxfp8_outside": "float8_e4m3fn"} if outside else {"mxfp8": "bfloat16"}

    def build(sizes: Mapping[str, int], dtype: str, lnc: int) -> tuple[Any, tuple[Any, ...]]:
        from perwatt_kernels.matmul.nki_mx_kernel import matmul_mx, matmul_mx_quantized
        from perwatt_kernels.nki_interpreter.launch import Kernel, Spec

        operands = tuple(Spec(shape, dtype) for shape in limits.shapes(product, sizes))
        if not outside:
            return Kernel(matmul_mx, lnc), (*operands, *limits.TURNED[product])
        rows, columns, depth = limits.extents(product, sizes)
        blocks = -(-depth // SCALE_BLOCK)
        scales = Spec((blocks, rows), "uint8"), Spec((blocks, columns), "uint8")
        return Kernel(matmul_mx_quantized, lnc), (*operands, *scales, *limits.TURNED[product])

    def compulsory(sizes: Mapping[str, int], size: int) -> int:
        rows, columns, depth = limits.extents(product, sizes)
        scales = -(-depth // SCALE_BLOCK) if outside else 0
        return (size * depth + scales) * (rows + columns) + RESULT * rows * columns

    return Costed(
        operation=_name(product), impl="nki_mx_outside" if outside else "nki_mx", workload="gemm",
        extents=("m", "n", "k"), formats=formats, build=build, params={"product": product}, rate=4,
        unsupported=lambda sizes, gen, size: limits.unsupported_mx(product, sizes, gen, outside=outside),
        useful=lambda sizes: prod(sizes.values()), compulsory=compulsory,
        instructions=lambda sizes: _instructions(product, sizes, rate=4),
    )  # fmt: skip


COSTED = (
    *(_plain(product) for product in limits.TURNED),
    *(_fp8(product, by, ieee) for product in limits.TURNED for by in ("tensor", "row") for ieee in (False, True)),
    *(_mx(product, outside) for product in limits.TURNED for outside in (False, True)),
)
