"""Matrix products.

A kernel's ``build`` returns ``matmul(a, b, bias=None)``: ``a`` is [m, k] or [batch, m, k], ``b`` is [k, n] or
[batch, k, n], both as views on storage of the declared layout; the result is [m, n] or [batch, m, n] in the
requested output format, after the epilogue of ``params["epilogue"]`` (``none``, ``bias``, ``gelu_tanh``,
``bias_gelu_tanh``). ``bias`` is [n].

With scales the operands are quantized inside, or arrive so: ``matmul(a, b, scale_a, scale_b, bias=None)`` with 8-bit
``a`` and ``b`` and float32 scales, [1, 1] by tensor, [m, 1] and [1, n] by row.
"""
