"""``attention_bwd`` as the public source of the NKI Library has its arguments and assertions."""

from __future__ import annotations

from typing import Any

from nkilib.reference import Reference, kernel_assert, scores

ROWS, COLUMNS = 128, 512


@Reference
def attention_bwd(
    q_ref: Any, k_ref: Any, v_ref: Any, o_ref: Any, dy_ref: Any, lse_ref: Any, sinks_ref: Any = None,
    use_causal_mask: bool = False, mixed_precision: bool = False, softmax_scale: float | None = None,
    sliding_window: int | None = None,
) -> Any:  # fmt: skip
    """Operands are [batch, heads, d, length], the log-sum-exp [batch, heads, 128, q_len / 128]."""
    kernel_assert(sinks_ref is None and sliding_window is None, "not in this stand-in")
    (batch, heads, width, length), (_, keys, _, seen) = q_ref.shape, k_ref.shape
    kernel_assert(heads % keys == 0, f"Query heads {heads} should be equal to or divisible by key/value heads ({keys})")
    kernel_assert(k_ref.shape == v_ref.shape == (batch, keys, width, seen), f"Input K shape mismatch, {k_ref.shape}")
    kernel_assert(o_ref.shape == dy_ref.shape == q_ref.shape, f"Input o shape mismatch, got {o_ref.shape}")
    kernel_assert(lse_ref.shape == (batch, heads, ROWS, length // ROWS), f"Input lse shape mismatch, {lse_ref.shape}")
    kernel_assert(not use_causal_mask or length == seen, f"Causal attention assumes same length, {length} and {seen}")
    kernel_assert(len({t.dtype for t in (q_ref, k_ref, v_ref, o_ref, dy_ref)}) == 1, "Got multiple input dtypes")
    tile = min(COLUMNS, seen)
    kernel_assert(seen % tile == 0, f"Key sequence length should be multiple of {tile}, got {seen}")
    kernel_assert(tile % ROWS == 0, f"Key sequence tile size should be multiple of {ROWS}, got {tile}")
    kernel_assert(length % ROWS == 0, f"Query sequence length should be multiple of {ROWS}, got {length}")
    group, kind = heads // keys, q_ref.dtype
    q, out, dy = (t.mT.float() for t in (q_ref, o_ref, dy_ref))
    k, v = (t.mT.float().repeat_interleave(group, dim=1) for t in (k_ref, v_ref))
    scale = softmax_scale or width**-0.5
    lse = lse_ref.mT.reshape(batch, heads, length, 1)
    p = (scores(q, k, scale, use_causal_mask) - lse).exp()
    ds = (p * (dy @ v.mT - (out * dy).sum(dim=-1, keepdim=True))).to(kind).float()
    dq, dk, dv = ds @ k * scale, ds.mT @ q * scale, p.to(kind).float().mT @ dy
    dk, dv = (t.unflatten(1, (keys, group)).sum(dim=2) for t in (dk, dv))
    return tuple(t.mT.to(kind).contiguous() for t in (dq, dk, dv))
