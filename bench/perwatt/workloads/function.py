"""Workloads that are one differentiable function of tensors, judged against the same mathematics written out.

Such a workload says what its operands are, how the framework does it (``plain``) and what it means (``written``);
implementations, passes, sessions and the gate follow from that.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from perwatt.spec.data import Recipe
from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads import autocast
from perwatt.workloads.base import Accuracy, Counts, Impl, Workload
from perwatt.workloads.compiled import compiled
from perwatt.workloads.operation import OperationSession, Tensors
from perwatt.workloads.variants import captured
from perwatt_kernels.dtypes import dtype

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from perwatt.accuracy.reference_parts import Arithmetic
    from perwatt.backends.base import Backend
    from perwatt.spec.case import Case

POLICIES = ("fp32", "tf32", "bf16", "fp16", "bf16_master")
IDS = "int64"
"""Format of operands that are indices."""
SECOND_PASS = {"fwd": 1, "bwd": 2, "fwd+bwd": 3}
"""Products of a pass for each product of the forward: the gradients of both operands cost one each."""
AT_ONCE = {False: 4.25, True: 6.25}  # with gradients: numbers at once over those of operands and result, as counted
NORMAL_DEVIATION = 2 / math.sqrt(3)  # of the data recipe `normal`


@dataclass(frozen=True, kw_only=True, slots=True)
class Operand:
    """One tensor that goes in, or the result.

    Attributes:
        format: number format, or :data:`IDS`.
        kind: recipe of its values; empty for the case's own distribution.
        exponent: its values are scaled by two to this power.
        high: exclusive upper bound of indices.
        rows: whether a dimension runs over rows that do not see each other, so that a part of the rows can be
            computed without the rest.
        along: the dimension that does, if it is not the first.
        product: whether it goes into products as it is, so that autocast makes a copy of it in their format.
    """

    name: str
    shape: tuple[int, ...]
    format: str
    kind: str = ""
    exponent: int = 0
    high: int = 0
    rows: bool = False
    along: int = 0
    product: bool = False

    @property
    def cut(self) -> int | None:
        """Dimension in which it can be cut in blocks, if there is one."""
        return self.along if self.rows else None

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> float:
        """As stored."""
        return self.size * (8.0 if self.format == IDS else FORMATS[self.format])

    def recipe(self, distribution: str) -> Recipe:
        """How it is filled in a case of this data distribution."""
        kind = self.kind or distribution
        return Recipe(name=self.name, shape=self.shape, kind=kind, exponent=self.exponent, high=self.high)


def indices(name: str, count: int, high: int, kind: str = "ids") -> Operand:
    """An operand of ``count`` indices below ``high``, one for each row."""
    return Operand(name=name, shape=(count,), format=IDS, kind=kind, high=high, rows=True)


def scalar(name: str) -> Operand:
    """A loss: one float32 number, into which a gradient of 1/2 flows: not 1, or nobody would see it forgotten."""
    return Operand(name=name, shape=(), format="fp32", kind="ones", exponent=-1)


def fan_in(features: int) -> int:
    """Exponent of weights whose products with operands of size 1 over so many features are of size 1."""
    return round(math.log2(features**-0.5 / NORMAL_DEVIATION))


class FunctionWorkload(Workload):
    """See the module.

    Attributes:
        multiplies: whether it has products, which are what autocast casts for. Then what it takes has the formats
            ``stream`` and ``weights`` of the policy.
    """

    passes = ("fwd", "bwd", "fwd+bwd")
    multiplies: ClassVar[bool] = False

    @abstractmethod
    def operands(self, params: Any, precision: Precision) -> Sequence[Operand]:
        """What goes in, in the order that the functions take it."""

    @abstractmethod
    def result(self, params: Any, precision: Precision) -> Operand:
        """What comes out."""

    @abstractmethod
    def plain(self, params: Any, precision: Precision, device: torch.device) -> Callable[..., Tensor]:
        """The function as one would write it in the framework, at its best."""

    @abstractmethod
    def written(self, params: Any, arithmetic: Arithmetic) -> Callable[..., Tensor]:
        """The function from its definition, in any arithmetic. Shares nothing with ``plain``."""

    def impls(self) -> Mapping[str, Impl]:
        """Eager, through the compiler, and what follows from these."""
        own = {
            "torch": Impl(name="torch", impl_class="eager", build=self._eager, summary="eager"),
            "torch.compile": Impl(
                name="torch.compile", impl_class="graph", build=self._graph,
                unsupported=lambda case, backend: backend.uncompilable(), summary="the same through torch.compile",
            ),
        }  # fmt: skip
        return captured(own)

    def unsupported(self, case: Case, impl: Impl, backend: Backend) -> str | None:
        """Policies under which this is no work, or that of another policy, or not there yet."""
        name = case.precision.name
        if case.precision.scaling != "none":
            return f"fp8 policies are for gemm and train_step: {self.name} has no {name}"
        if case.precision.casts == "autocast" and not self.multiplies:
            return (
                f"autocast casts nothing in {self.name}, which has no products: measure it by the policy whose format "
                "it meets, such as fp32 or bf16"
            )
        if case.precision.casts != "autocast" and name not in POLICIES:
            return f"{self.name} has no {name} yet (there are {', '.join(POLICIES)})"
        return super().unsupported(case, impl, backend)

    def _eager(self, case: Case, backend: Backend) -> Callable[..., Tensor]:
        return self.plain(case.params, case.precision, backend.device)

    def _graph(self, case: Case, backend: Backend) -> Callable[..., Tensor]:
        return compiled(self._eager(case, backend), backend)

    def memory(self, case: Case, devices: int = 1) -> float:
        """Operands and result, with a backward the gradients of all of them, and the copies that autocast makes."""
        held = self._all(case.params, case.precision)
        gradients = [one for one in held if one.format != IDS] if case.grad else []
        return sum(one.bytes for one in [*held, *gradients]) + self.cast_bytes(case)

    def cast_bytes(self, case: Case) -> float:
        """Of the copies of operands in the format of products, which autocast keeps for the backward."""
        if case.precision.casts != "autocast" or not case.grad:
            return 0.0
        factors = [one for one in self.operands(case.params, case.precision) if one.product]
        return sum(one.size for one in factors) * FORMATS[case.precision.compute]

    def at_once(self, params: Any, precision: Precision, grad: bool) -> float:
        """Numbers of each row that the function written out, its gradients and their comparison have at once.

        Functions that make more of a row than goes in and comes out have to say so.
        """
        cut = [one for one in self._all(params, precision) if one.rows and one.format != IDS]
        return AT_ONCE[grad] * sum(one.size / one.shape[one.along] for one in cut)

    def gate_memory(self, case: Case, devices: int = 1) -> float:
        """Beside operands, result and gradients a block in float64; or a copy of an operand as it is filled anew."""
        from perwatt.accuracy.blocks import working_bytes

        held = self._all(case.params, case.precision)
        floats = [one for one in held if one.format != IDS]
        working = working_bytes(
            extent=next((one.shape[one.along] for one in held if one.rows), 1),
            at_once=self.at_once(case.params, case.precision, case.grad),
            shared=sum(one.size for one in floats[:-1] if not one.rows),
            rows=sum(one.size // one.shape[-1] for one in (floats if case.grad else floats[-1:]) if one.shape),
            gradients=case.grad,
        )
        body = self.memory(case, devices)
        saved = case.grad and case.pass_ == "fwd"  # what a forward saved is looked at by a backward in the gate
        there = body if saved else FunctionWorkload.memory(self, case, devices)
        filling = sum(one.bytes for one in (held if case.grad else held[:-1])) + max(one.bytes for one in held)
        return max(0.0, there + working - body, filling - body)

    def _all(self, params: Any, precision: Precision) -> list[Operand]:
        """Operands and result."""
        return [*self.operands(params, precision), self.result(params, precision)]

    def verify(
        self, case: Case, operands: list[Tensor], incoming: Tensor | None, result: Tensor | None,
        gradients: Sequence[Tensor] | None,
    ) -> Accuracy:  # fmt: skip
        """The gate: against the function written out, see :mod:`perwatt.accuracy.composite`.

        Under autocast the operands of products count as cast, as in the gate of single products.
        """
        from perwatt.accuracy import composite

        declared = self.operands(case.params, case.precision)
        compute = dtype(case.precision.compute)
        seen = [t.to(compute) if one.product else t for one, t in zip(declared, operands, strict=True)]
        problem = composite.Problem(
            operands=seen,
            cuts=tuple(one.cut for one in declared),
            result_cut=self.result(case.params, case.precision).cut,
            names=tuple(one.name for one in declared),
            written=lambda arithmetic: self.written(case.params, arithmetic),
            flops=self.counts(case.params, case.pass_, case.precision).flops or 0.0,
            at_once=self.at_once(case.params, case.precision, case.grad),
        )
        return composite.check(problem, case.precision, incoming, result, gradients)

    def open(self, case: Case, impl: Impl, backend: Backend, seed: int) -> OperationSession:
        """Operands on the device, the impl built."""
        declared, out = self.operands(case.params, case.precision), self.result(case.params, case.precision)
        return OperationSession(
            case=case, backend=backend, seed=seed,
            function=autocast.cast(impl.build(case, backend), case.precision, backend),
            operands=_tensors(declared, case, backend), cotangent=_tensors([out], case, backend),
            verify=lambda *results: self.verify(case, *results),
            set_bytes=sum(one.bytes for one in (*declared, out)), captured=impl.captured,
        )  # fmt: skip


def by_pass(forward: float, backward: float) -> dict[str, float]:
    """Bytes of each pass; a forward and its backward move what each of them moves."""
    return {"fwd": forward, "bwd": backward, "fwd+bwd": forward + backward}


def products(flops: float, pass_: str, tokens: float | None = None) -> Counts:
    """Counts of a function that is made of products, from the operations of its forward."""
    return Counts(flops=flops * SECOND_PASS[pass_], tokens=tokens)


def _tensors(declared: Sequence[Operand], case: Case, backend: Backend) -> Tensors:
    formats = {one.name: one.format for one in declared}

    def place(recipe: Recipe, tensor: Tensor) -> Tensor:
        name = formats[recipe.name]
        return tensor.to(device=backend.device, dtype=None if name == IDS else dtype(name))

    return Tensors([one.recipe(case.distribution) for one in declared], place)
