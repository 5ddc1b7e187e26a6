"""Linear layers: three products, of which two are the backward pass.

A kernel's ``build`` returns ``linear(x, w, bias=None)``: ``x`` is [..., k] with any leading dimensions, contiguous or
not, ``w`` is [n, k], ``bias`` is [n]; the result is [..., n] in the requested output format. Where gradients are
requested, ``x``, ``w`` and ``bias`` get theirs in their own formats. ``params`` are ``m`` (rows of ``x`` in all),
``n``, ``k`` and ``bias``.

Operands arrive in 16 or more bits. With scales they are quantized inside, in each product anew, by the rule of
:mod:`~perwatt_kernels.matmul.quantize`: activations and weights in ``request.compute``, gradients in
``request.backward``.
"""
