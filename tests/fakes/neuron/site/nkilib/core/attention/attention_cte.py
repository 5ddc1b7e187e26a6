"""``attention_cte`` as its page has it (SDK 2.32, nki/library/api/attention-cte), without what is not called here."""

from __future__ import annotations

from typing import Any

from nkilib.reference import Reference, kernel_assert, scores


@Reference
def attention_cte(
    q: Any, k: Any, v: Any, scale: float = 1.0, causal_mask: bool = True, k_prior: Any = None, v_prior: Any = None,
    prior_used_len: Any = None, sink: Any = None, sliding_window: int | None = None, tp_q: bool = True,
    tp_k: bool = False, tp_out: bool = False, cache_softmax: bool = False,
) -> Any:  # fmt: skip
    """q [batch, q_len, d] with tp_q, k [batch_kv, kv_len, d] with tp_k (else transposed), v [batch_kv, kv_len, d]."""
    kernel_assert(k_prior is v_prior is prior_used_len is sink is sliding_window is None, "not in this stand-in")
    q, k = q if tp_q else q.mT, k if tp_k else k.mT
    (batch, length, width), keys = q.shape, k.shape[0]
    kernel_assert(k.shape == v.shape and k.shape[2] == width, f"Input shape mismatch, got {k.shape} and {v.shape}")
    kernel_assert(batch <= 512, f"attention_cte kernel is not tested for batch size above 512, got {batch}.")
    kernel_assert(batch % keys == 0, f"Q batch size must be a multiple of KV batch size, got {batch}, {keys}")
    kernel_assert(width <= 128, f"we do not support head_dim > 128, got head dim {width}")
    kernel_assert(not cache_softmax or length % 128 == 0, f"seqlen_q must be a multiple of 128, got {length}")
    low = [t.bfloat16().repeat_interleave(n, dim=0) for t, n in ((q, 1), (k, batch // keys), (v, batch // keys))]
    found = scores(low[0], low[1], scale, causal_mask)
    most = found.amax(dim=-1, keepdim=True)
    weights = (found - most).exp()
    total = weights.sum(dim=-1, keepdim=True)
    out = ((weights.bfloat16().float() @ low[2].float()) / total).to(q.dtype)
    out = out.mT.contiguous() if tp_out else out
    if not cache_softmax:
        return out
    kept = (t.view(batch, -1, 128).mT.contiguous() for t in (-most, 1 / total))
    return (out, *kept)
