"""What the product in NKI is to show on a chip: a tile, edges, a block, and the products of a large layer."""

from __future__ import annotations

from perwatt_kernels.matmul.nki_limits import FORMATS
from perwatt_kernels.selftests import SelfTest, Step

IEEE = ("fp8_tensor_ieee_outside", "fp8_row_ieee_outside")
EIGHT_BITS = ("fp8_tensor", "fp8_row")  # refused before v4
BLOCKS = ("mxfp8_outside",)  # the same


def _step(m: int, n: int, k: int, *formats: str, simulated: bool = False) -> Step:
    return Step(params={"m": m, "n": n, "k": k}, formats=formats or ("bf16",), simulated=simulated)


PLAIN = SelfTest(
    operation="matmul", impl="nki", workload="gemm", fallback="torch",
    variants=({"product": "fwd"}, {"product": "dgrad"}, {"product": "wgrad"}),
    steps=(
        _step(128, 128, 128, *FORMATS, simulated=True),
        _step(129, 513, 257, *FORMATS, simulated=True),
        _step(1, 7, 3, simulated=True),
        _step(130, 66, 258, *IEEE, *EIGHT_BITS, simulated=True),
        _step(136, 68, 260, *BLOCKS, simulated=True),
        _step(512, 512, 512, *FORMATS),
        _step(2048, 2048, 2048),
        _step(4096, 4096, 4096, "bf16", *IEEE, *EIGHT_BITS, *BLOCKS),
        _step(8192, 14336, 4096),
    ),
)  # fmt: skip
COMPILED = SelfTest(  # whether a graph takes a kernel as docs/nki.md has it
    operation="matmul", impl="nki", workload="gemm", fallback="torch", compiled=True,
    steps=(_step(128, 128, 128, simulated=True),),
)  # fmt: skip
SELFTESTS = (PLAIN, COMPILED)
