"""What products in Triton are to show on a GPU: tiles, edges, skinny and deep shapes, layers of llama-3-8b."""

from __future__ import annotations

from perwatt_kernels.selftests import SelfTest, Step

FORMATS = ("bf16", "fp16", "tf32", "fp32")
EIGHT_BITS = ("fp8_tensor", "fp8_row", "fp8_tensor_outside", "fp8_row_outside_fast")


def _step(m: int, n: int, k: int, *formats: str, **more: object) -> Step:
    return Step(params={"m": m, "n": n, "k": k, **more}, formats=formats or ("bf16",))


PLAIN = SelfTest(
    operation="matmul", impl="triton", workload="gemm", fallback="torch",
    variants=({"product": "fwd"}, {"product": "dgrad"}, {"product": "wgrad"}),
    steps=(
        _step(128, 128, 128, *FORMATS), _step(1, 7, 3, *FORMATS), _step(129, 513, 257, *FORMATS),
        _step(144, 80, 272, *EIGHT_BITS), _step(65, 129, 1000, batch=3), _step(16, 4096, 14336),
        _step(4096, 4096, 4096, *FORMATS, *EIGHT_BITS), _step(8192, 28672, 4096),
    ),
)  # fmt: skip
GRADIENTS = SelfTest(
    operation="matmul", impl="triton", workload="gemm", fallback="torch", passes=("fwd+bwd",), compiled=True,
    steps=(_step(144, 528, 272, *FORMATS, "fp8_tensor"), _step(8192, 4096, 4096, "bf16", "fp8_row")),
)  # fmt: skip
SELFTESTS = (PLAIN, GRADIENTS)
