"""Linear layers: y = x w^T + bias, and the two products of their backward pass.

A kernel's ``build`` returns ``linear(x, w, bias=None)``: ``x`` is [..., k] with any leading dimensions, ``w`` is
[n, k], ``bias`` is [n]; the result is [..., n] in the requested output format. With gradients, those of ``x`` and ``w``
have their formats. ``params`` are ``m`` (tokens), ``n``, ``k`` and ``bias``. With scales the operands of all three
products are quantized inside, by the rule of :mod:`perwatt_kernels.matmul.quantize`: ``x`` and ``w`` to
``request.compute``, incoming gradients to ``request.backward``.
"""
