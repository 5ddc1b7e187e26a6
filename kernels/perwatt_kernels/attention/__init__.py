"""Scaled dot-product attention.

A kernel's ``build`` returns ``attention(q, k, v)``: ``q`` is [batch, heads, q_len, head_dim], ``k`` and ``v`` are
[batch, kv_heads, kv_len, head_dim], all as views on storage of the declared layout; the result has the shape of ``q``.
``params`` says what is attended to: ``causal`` (top-left aligned: query i sees keys 0 to i), ``window`` (only the
nearest so many keys, or None), ``varlen`` (lengths of the documents packed into the sequence, or None), ``scale``,
``dropout``.
"""
