"""What attention in Gluon is to show on a GPU: edges of tiles, head dims, unequal groups, long sequences."""

from __future__ import annotations

from perwatt_kernels.selftests import SelfTest, Step

BOTH, FORMATS = ("fwd", "fwd+bwd"), ("bf16", "fp16")


def _step(heads: int, kv_heads: int, seq: int, head_dim: int, *formats: str, **more: object) -> Step:
    params = {"heads": heads, "kv_heads": kv_heads, "seq": seq, "head_dim": head_dim, **more}
    passes = ("fwd",) if head_dim > 128 else ()
    return Step(params=params, formats=formats or ("bf16",), passes=passes)


SELFTESTS = (
    SelfTest(
        operation="attention", impl="gluon", workload="attention", fallback="sdpa", passes=BOTH,
        variants=({"causal": True}, {"causal": False}),
        steps=(
            _step(2, 2, 64, 64, *FORMATS), _step(3, 1, 1, 128), _step(4, 2, 130, 64, *FORMATS), _step(4, 1, 513, 128),
            _step(6, 2, 300, 80), _step(4, 2, 257, 256), _step(2, 2, 200, 64, layout="bhsd"),
            _step(32, 8, 8192, 128), _step(32, 8, 8192, 64), _step(8, 2, 32768, 128),
        ),
    ),
)  # fmt: skip
