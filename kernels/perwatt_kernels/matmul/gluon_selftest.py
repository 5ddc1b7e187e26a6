"""What products in Gluon are to show on a Hopper: ends of tiles, both ways of sharing them, layers of llama-3-8b."""

from __future__ import annotations

from perwatt_kernels.selftests import SelfTest, Step

FORMATS = ("bf16", "fp16")
EIGHT_BITS = ("fp8_tensor_outside", "fp8_row_outside_fast")


def _step(m: int, n: int, k: int, *formats: str) -> Step:
    return Step(params={"m": m, "n": n, "k": k}, formats=formats or ("bf16",))


PLAIN = SelfTest(
    operation="matmul", impl="gluon", workload="gemm", fallback="triton",
    variants=({"product": "fwd"}, {"product": "dgrad"}, {"product": "wgrad"}),
    steps=(
        _step(128, 128, 128, *FORMATS), _step(8, 8, 8), _step(144, 528, 272, *FORMATS, *EIGHT_BITS),
        _step(4096, 4096, 4096, *FORMATS, *EIGHT_BITS), _step(8192, 28672, 4096),
    ),
)  # fmt: skip
GRADIENTS = SelfTest(
    operation="matmul", impl="gluon", workload="gemm", fallback="triton", passes=("fwd+bwd",), compiled=True,
    steps=(_step(144, 528, 272, *FORMATS, "fp8_tensor"), _step(8192, 4096, 4096, "bf16", "fp8_row")),
)  # fmt: skip
SELFTESTS = (PLAIN, GRADIENTS)
