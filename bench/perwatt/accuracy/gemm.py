"""Gate of gemm: its result and both gradients, against operands as the policy has products see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.nn import functional as F

from perwatt.accuracy import products
from perwatt.spec.precision import Precision
from perwatt.workloads.base import Accuracy
from perwatt.workloads.gemm import GemmParams, output_format
from perwatt_kernels.matmul.quantize import Scheme
from perwatt_kernels.registry import Request

COMPOSITE = 2  # an epilogue's separate steps may each round to the output format


def check(
    params: GemmParams, precision: Precision, request: Request, operands: Sequence[Tensor], incoming: Tensor | None,
    result: Tensor | None, gradients: Sequence[Tensor] | None,
) -> Accuracy:  # fmt: skip
    """Whether ``result`` and ``gradients`` are those of the operands.

    Args:
        params: of the case.
        precision: its policy.
        request: what its kernel was asked for.
        operands: as they arrived, in the order that ``perwatt_kernels.matmul`` has them.
        incoming: gradient that flowed into the result.
        result: what the impl gave.
        gradients: of the left and the right operand.
    """
    scheme = Scheme.of(request)
    a, b = scheme.seen(operands)
    results = []
    if result is not None:
        bias = operands[scheme.count] if len(operands) > scheme.count else None
        results.append(_result(params, precision, (a, b), bias, result, scheme.doubts(operands)))
    if gradients is not None and incoming is not None:
        pairs = ((incoming, b.mT), (a.mT, incoming))
        if precision.scaling != "none":
            pairs = ((incoming, operands[1].mT), (operands[0].mT, incoming))  # each product quantizes anew
        results += _gradients(precision, request, pairs, gradients)
    return Accuracy.worst(results)


def _result(
    params: GemmParams, precision: Precision, pair: tuple[Tensor, Tensor], bias: Tensor | None, result: Tensor,
    doubts: tuple[Tensor, Tensor] | None,
) -> Accuracy:  # fmt: skip
    output, depth = output_format(params, precision), params.extents[2]
    limit = products.bound(precision.compute, output, depth, precision.fast_accumulation)
    return products.check(
        *pair, result, bias=bias, name="result", bound=limit * (1 if params.epilogue == "none" else COMPOSITE),
        after=(lambda x: F.gelu(x, approximate="tanh")) if params.epilogue.endswith("gelu_tanh") else None,
        doubts=doubts,
    )  # fmt: skip


def _gradients(
    precision: Precision, request: Request, pairs: Sequence[tuple[Tensor, Tensor]], gradients: Sequence[Tensor]
) -> Iterator[Accuracy]:
    for pair, scheme, found, name in zip(pairs, Scheme.of_gradients(request), gradients, "ab", strict=True):
        depth, doubts = pair[0].shape[-1], scheme.doubts(pair)
        limit = products.bound(precision.compute, precision.activations, depth, precision.fast_accumulation)
        a, b = pair if scheme.scaling == "none" else scheme.seen(pair)
        yield products.check(a, b, found, bound=limit, name=f"gradient of {name}", doubts=doubts)
