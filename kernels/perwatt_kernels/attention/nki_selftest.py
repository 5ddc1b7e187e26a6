"""What attention in NKI, and AWS's own, are to show on a chip: a tile, edges, few heads and many, long sequences."""

from __future__ import annotations

from perwatt_kernels.attention.nki_limits import FORMATS
from perwatt_kernels.selftests import SelfTest, Step

BOTH = ("fwd", "fwd+bwd")


def _step(heads: int, kv_heads: int, seq: int, head_dim: int, *formats: str, simulated: bool = False) -> Step:
    params = {"heads": heads, "kv_heads": kv_heads, "seq": seq, "head_dim": head_dim}
    return Step(params=params, formats=formats or ("bf16",), simulated=simulated)


LONG = (_step(32, 8, 2048, 128), _step(32, 8, 8192, 128), _step(8, 2, 32768, 128))

SELFTESTS = (
    SelfTest(
        operation="attention", impl="nki", workload="attention", fallback="sdpa", passes=BOTH,
        variants=({"causal": True}, {"causal": False}),
        steps=(
            _step(2, 2, 64, 16, *FORMATS, simulated=True),
            _step(4, 2, 130, 64, *FORMATS, simulated=True),
            _step(3, 1, 1, 128, simulated=True),
            _step(24, 8, 77, 16, simulated=True),
            _step(32, 32, 64, 64),
            _step(4, 1, 513, 128, *FORMATS),
            *LONG,
        ),
    ),
    SelfTest(
        operation="attention", impl="nkilib", workload="attention", fallback="sdpa", passes=BOTH, vendor=True,
        steps=(_step(2, 2, 128, 64), _step(4, 2, 512, 128), *LONG),
    ),
    SelfTest(
        operation="attention", impl="sdpa-nki", workload="attention", fallback="torch", passes=BOTH, vendor=True,
        steps=(_step(2, 2, 512, 64), _step(32, 32, 2048, 128), _step(32, 32, 8192, 128)),
    ),
)  # fmt: skip
