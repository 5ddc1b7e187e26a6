"""The products of a mixture-of-experts layer: each group of tokens with the weights of its own expert.

Stands for: the expert layers of a training step, after tokens were sorted by expert.
Formula: Y_g = X_g W_g^T for every group g, with X_g the rows of group g and W_g [intermediate, hidden].
FLOPs: 2 x tokens x hidden x intermediate over all groups together, and as much for the gradient of X and for that of
W.
Bytes: X, all W and Y moved once each; the backward moves X, W and the gradient of Y, and writes those of X and W.
Gate: every group as a matrix product, whole by Freivalds' check, and its gradients likewise.
Leaves out: the router, sorting tokens by expert and back, and the exchange of tokens between devices.

`tokens` counts rows over all groups, so a token that goes to two experts counts twice. Loads are `balanced` (equal up
to one row) or follow Zipf's law (`zipf`: group g gets a share in proportion to 1 / (g + 1)), as they may without
balancing. The product from intermediate to hidden is this one with the two names exchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from perwatt.spec.precision import Precision
from perwatt.workloads.base import Accuracy, Counts, Impl
from perwatt.workloads.function import SECOND_PASS, FunctionWorkload, Operand, by_pass, fan_in
from perwatt.workloads.variants import captured
from perwatt_kernels.dtypes import dtype

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from perwatt.accuracy.reference_parts import Arithmetic
    from perwatt.backends.base import Backend
    from perwatt.spec.case import Case


GROUPED_FROM = 9  # major compute capability with a grouped kernel for bf16 (aten/src/ATen/native/cuda/GroupedBlas.cpp)


class GroupedGemmParams(BaseModel):
    """Parameters of grouped products.

    Attributes:
        groups: experts.
        tokens: rows over all groups.
        hidden: features of X.
        intermediate: features of Y.
        loads: how rows are shared among groups.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    groups: int = Field(ge=1, le=2**16)
    tokens: int = Field(ge=1, le=2**31)
    hidden: int = Field(ge=1, le=2**24)
    intermediate: int = Field(ge=1, le=2**24)
    loads: Literal["balanced", "zipf"] = "balanced"

    @model_validator(mode="after")
    def _enough(self) -> GroupedGemmParams:
        if self.tokens < self.groups:
            raise ValueError(f"tokens {self.tokens} leave some of {self.groups} groups without a row")
        if self.groups == 1:
            object.__setattr__(self, "loads", "balanced")  # one group has them all
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each group, at least one."""
        shares = [1.0] * self.groups if self.loads == "balanced" else [1 / (g + 1) for g in range(self.groups)]
        free, whole = self.tokens - self.groups, sum(shares)
        sizes = [1 + int(free * share / whole) for share in shares]
        for extra in range(self.tokens - sum(sizes)):
            sizes[extra % self.groups] += 1
        return tuple(sizes)


class GroupedGemm(FunctionWorkload):
    """See the module."""

    name = "grouped_gemm"
    summary = "products of a mixture-of-experts layer, one weight for each group of tokens"
    Params = GroupedGemmParams
    multiplies = True

    def label(self, params: GroupedGemmParams) -> str:
        """``8x 16384x4096x14336 zipf``: groups, then tokens of all x hidden x intermediate."""
        skew = " zipf" if params.loads == "zipf" else ""
        return f"{params.groups}x {params.tokens}x{params.hidden}x{params.intermediate}{skew}"

    def counts(self, params: GroupedGemmParams, pass_: str, precision: Precision) -> Counts:
        """See the module."""
        x, w = (one.bytes for one in self.operands(params, precision))
        y = self.result(params, precision).bytes
        return Counts(
            flops=2.0 * params.tokens * params.hidden * params.intermediate * SECOND_PASS[pass_],
            bytes=by_pass(x + w + y, 2 * (x + w) + y)[pass_],
        )

    def operands(self, params: GroupedGemmParams, precision: Precision) -> Sequence[Operand]:
        """Rows sorted by group, and weights."""
        weights = (params.groups, params.intermediate, params.hidden)
        return (
            Operand(name="x", shape=(params.tokens, params.hidden), format=precision.stream, product=True),
            Operand(name="w", shape=weights, format=precision.weights, exponent=fan_in(params.hidden), product=True),
        )

    def result(self, params: GroupedGemmParams, precision: Precision) -> Operand:
        """Rows sorted by group."""
        return Operand(name="dy", shape=(params.tokens, params.intermediate), format=precision.activations)

    def impls(self) -> Mapping[str, Impl]:
        """One product after the other, compiled, batched where loads are equal, and the framework's grouped product."""
        own = {
            **super().impls(),
            "bmm": Impl(
                name="bmm", impl_class="eager", build=_batched, unsupported=_unequal,
                summary="one batched product, for groups of equal size",
            ),
            "grouped_mm": Impl(
                name="grouped_mm", impl_class="eager", build=_grouped, unsupported=_ungrouped,
                summary="the framework's grouped product",
            ),
        }  # fmt: skip
        return captured(own)

    def plain(self, params: GroupedGemmParams, precision: Precision, device: torch.device) -> Callable[..., Tensor]:
        """A product for each group, joined."""
        import torch

        sizes = list(params.sizes)

        def grouped(x: Tensor, w: Tensor) -> Tensor:
            return torch.cat([rows @ weight.T for rows, weight in zip(x.split(sizes), w, strict=True)])

        return grouped

    def written(self, params: GroupedGemmParams, arithmetic: Arithmetic) -> Callable[..., Tensor]:
        """Every row with the weight of its own group. The gate takes each product on its own instead."""
        import torch

        groups = torch.arange(params.groups).repeat_interleave(torch.tensor(params.sizes))

        def grouped(x: Tensor, w: Tensor) -> Tensor:
            return torch.einsum("th,tih->ti", x, w[groups.to(x.device)])

        return grouped

    def verify(
        self, case: Case, operands: list[Tensor], incoming: Tensor | None, result: Tensor | None,
        gradients: Sequence[Tensor] | None,
    ) -> Accuracy:  # fmt: skip
        """Y, dX = dY W and dW = dY^T X of every group."""
        from perwatt.accuracy import products

        params: GroupedGemmParams = case.params  # type: ignore[assignment]
        x, w = (operand.to(dtype(case.precision.compute)) for operand in operands)  # as products see them
        compute, output, sizes = case.precision.compute, case.precision.activations, list(params.sizes)
        results = []

        def check(a: Tensor, b: Tensor, c: Tensor, name: str) -> None:
            limit = products.bound(compute, output, a.shape[-1])
            results.append(products.check(a, b, c, bound=limit, name=name))

        for group, rows in enumerate(x.split(sizes)):
            own = slice(sum(sizes[:group]), sum(sizes[: group + 1]))
            if result is not None:
                check(rows, w[group].T, result[own], f"result of group {group}")
            if gradients is not None and incoming is not None:
                dx, dw = gradients
                check(incoming[own], w[group], dx[own], f"gradient of x in group {group}")
                check(incoming[own].T, rows, dw[group], f"gradient of w in group {group}")
        return Accuracy.worst(results)


def _params(case: Case) -> GroupedGemmParams:
    params: GroupedGemmParams = case.params  # type: ignore[assignment]
    return params


def _unequal(case: Case, backend: Backend) -> str | None:
    params = _params(case)
    return "bmm needs groups of equal size" if len(set(params.sizes)) > 1 else None


def _batched(case: Case, backend: Backend) -> Callable[..., Tensor]:
    groups = _params(case).groups

    def grouped(x: Tensor, w: Tensor) -> Tensor:
        found: Tensor = (x.unflatten(0, (groups, -1)) @ w.mT).flatten(0, 1)
        return found

    return grouped


def _ungrouped(case: Case, backend: Backend) -> str | None:
    if case.precision.casts == "autocast":
        return "autocast does not cast the operands of grouped_mm"
    if case.precision.activations != "bf16":
        return "grouped_mm takes bf16 operands only (in other formats it is a loop over groups)"
    params = _params(case)
    if params.hidden % 8 or params.intermediate % 8:
        return "grouped_mm needs rows of a multiple of 16 bytes: hidden and intermediate divisible by 8"
    return None


def _grouped(case: Case, backend: Backend) -> Callable[..., Tensor]:
    """``grouped_mm``, public from torch 2.10 on; groups end at int32 offsets that stay on the device.

    Raises:
        NotImplementedError: it would be a loop over groups.
    """
    import torch
    from torch.nn import functional as F

    if backend.device.type == "cuda" and torch.cuda.get_device_capability(backend.device)[0] < GROUPED_FROM:
        raise NotImplementedError(
            f"below compute capability {GROUPED_FROM}.0 grouped_mm is a loop over groups that waits for the host; "
            "impl torch is such a loop without the wait"
        )
    product = getattr(F, "grouped_mm", None) or torch._grouped_mm
    ends = torch.tensor(_params(case).sizes).cumsum(0).to(backend.device, torch.int32)

    def grouped(x: Tensor, w: Tensor) -> Tensor:
        found: Tensor = product(x, w.mT, offs=ends)
        return found

    return grouped


WORKLOAD = GroupedGemm()
