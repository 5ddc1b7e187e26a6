"""What the product in NKI costs: kernels for ``perwatt kernels cost``."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from perwatt_kernels.matmul.nki_limits import FORMATS, TURNED, shapes, unsupported
from perwatt_kernels.nki_interpreter.costed import Costed


def _costed(product: str) -> Costed:
    def build(sizes: Mapping[str, int], dtype: str, lnc: int) -> tuple[Any, tuple[Any, ...]]:
        from perwatt_kernels.matmul.nki_kernel import matmul
        from perwatt_kernels.nki_interpreter.launch import Kernel, Spec

        left, right = shapes(product, sizes)
        return Kernel(matmul, lnc), (Spec(left, dtype), Spec(right, dtype), *TURNED[product])

    return Costed(
        operation="matmul" if product == "fwd" else f"matmul_{product}", impl="nki", workload="gemm",
        extents=("m", "n", "k"), formats=FORMATS, build=build, params={"product": product},
        unsupported=lambda sizes, gen, size: unsupported(product, sizes, gen, size),
        useful=lambda sizes: prod(sizes.values()),
        compulsory=lambda s, size: size * (s["m"] * s["k"] + s["k"] * s["n"] + s["m"] * s["n"]),
    )  # fmt: skip


COSTED = tuple(_costed(product) for product in TURNED)
