"""Gate of linear layers that quantize: how the reference multiplies, and each layer by itself.

A whole step tells little of 8-bit layers: what rounding leaves alone in one arithmetic goes over to the next of few
values in another, and gradients of two honest steps differ by a fifth. So the functions of a twin's layers are also
called by themselves and held to the bounds of single products, with operands too small, then too large, to come through
8 bits without scales of their own: a scale that is forgotten, or kept from the call before, leaves nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from perwatt.accuracy import gemm
from perwatt.models.trainer import Trainer
from perwatt.spec.precision import Precision
from perwatt.workloads.base import Accuracy
from perwatt.workloads.gemm import GemmParams
from perwatt.workloads.step_kernels import products
from perwatt_kernels.dtypes import dtype
from perwatt_kernels.linear import reference, scaled_impl
from perwatt_kernels.registry import Request

SIZES = (2.0**-14, 2.0**14)  # e4m3fn ends at 2^-9 and 448
GRADIENT_SIZES = (2.0**-24, 2.0**24)  # e5m2 ends at 2^-16 and 57344


def linear_of(precision: Precision) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The product of a linear layer by the policy's written-out rule, summed in float64; None where it has no scales.

    Args:
        precision: policy.
    """
    return None if precision.scaling == "none" else reference.quantized(_request(precision, 0, 0, 0))


def _request(precision: Precision, m: int, n: int, k: int) -> Request:
    return Request(
        device="cpu", compute=precision.compute, output=precision.activations, gradients=True,
        params={"m": m, "n": n, "k": k}, compile=lambda function: function, backward=precision.backward,
        scaling=precision.scaling, quantize=precision.quantize, fast_accumulation=precision.fast_accumulation,
    )  # fmt: skip


def layers(twin: Trainer, precision: Precision, seed: int) -> Iterator[Accuracy]:
    """Every linear layer of a block, its result and gradients, at each of :data:`SIZES`.

    Args:
        twin: whose kernels are looked at.
        precision: policy with scales.
        seed: of the operands.
    """
    assert twin.kernels.linear is not None
    generator = torch.Generator().manual_seed(seed)
    source, device = dtype(precision.activations), twin.tokens.device

    def made(size: float, *shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator) * size).to(device, source)

    for place, extents in products(twin.own).items():
        m, n, k, bias = extents["m"], extents["n"], extents["k"], extents["bias"]
        function = twin.kernels.linear(n, k, bias)
        request = scaled_impl.product_of(_request(precision, m, n, k))
        for size, flowing in zip(SIZES, GRADIENT_SIZES, strict=True):
            leaves = [made(size, m, k), made(size, n, k), *([made(size**2, n)] if bias else [])]
            incoming = made(flowing, m, n)
            result = function(*(leaf.requires_grad_() for leaf in leaves))
            dx, dw, *_ = torch.autograd.grad(result, leaves, incoming)
            x, w, *added = (leaf.detach() for leaf in leaves)
            params = GemmParams(m=m, n=n, k=k, epilogue="bias" if bias else "none")
            found = gemm.check(params, precision, request, [x, w.mT, *added], incoming, result.detach(), [dx, dw.mT])
            yield replace(found, detail=found.detail and f"{found.detail} of linear layer {place} by itself")
