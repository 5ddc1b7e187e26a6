"""The optimizer's step alone, over the weights of a model and fixed gradients.

Stands for: the end of a training step, which is bound by memory but for Muon.
Formula: AdamW, SGD or Muon over all weights, see the parameters; gradients are not clipped.
FLOPs: not counted; Muon's depend on its Newton-Schulz steps and are no part of a model's work.
Bytes: for P parameters of w bytes with gradients as wide, and moments of m bytes, AdamW reads weight, gradient and both
moments and writes weight and moments: P (3 w + 4 m), 28 P in fp32 and 14 P in bf16. SGD reads weight and gradient and
writes the weight: 3 P w. Muon's products read and write intermediate matrices, so for it there is no formula.
Gate: three steps by the timed body from other weights and gradients and no moments, every element of small models and
a fixed choice of large ones, against the optimizer written out in float64.
Leaves out: clipping, the cast of master weights for the next forward, and sharding.

Weights and gradients are stored as the model stores them: in the master format where the policy has one, with queries,
keys and values in one tensor, gate and up in another. No forward pass is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from perwatt.spec.data import Source
from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads.base import Accuracy, Counts, Impl, Session, Workload
from perwatt.workloads.compiled import compiled
from perwatt.workloads.model_params import ModelParams
from perwatt.workloads.optimizer_params import FUSED_ON, OptimizerParams
from perwatt.workloads.train_memory import moments_of
from perwatt.workloads.variants import autotuned

if TYPE_CHECKING:
    from perwatt.backends.base import Backend
    from perwatt.models.updater import Updater
    from perwatt.spec.case import Case

POLICIES = ("fp32", "bf16", "fp16", "bf16_master")
SMALLEST_FP16 = 2.0**-25  # half the smallest number above zero: what is below it rounds to zero


class OptimizerStepParams(ModelParams, OptimizerParams):
    """An optimizer with its constants, and the model whose weights it updates."""


class OptimizerStep(Workload):
    """See the module."""

    name = "optimizer_step"
    summary = "the optimizer's step alone, over the weights of a model"
    Params = OptimizerStepParams
    paths = ("model",)
    passes = ("step",)
    cached = False

    def check(self, params: OptimizerStepParams, pass_: str) -> None:
        """The model must exist, and the optimizer must have the constants that are given."""
        params.refuse_foreign()
        params.refuse_unknown_model()

    def describe(self, params: OptimizerStepParams, precision: Precision) -> dict[str, Any]:
        """The shape in place of the model's name; constants without a meaning spelled alike."""
        return {"model": params.shape.model_dump(mode="json")} | params.optimizer_work(precision.moments)

    def label(self, params: OptimizerStepParams) -> str:
        """``llama-tiny adamw``."""
        return f"{params.called} {params.optimizer}"

    def counts(self, params: OptimizerStepParams, pass_: str, precision: Precision) -> Counts:
        """Bytes as in the module; no FLOPs (docs/method.md, Counting)."""
        stored, moments = FORMATS[precision.stored], FORMATS[precision.moments]
        a_weight = {"adamw": 3 * stored + 4 * moments, "sgd": 3 * stored}.get(params.optimizer)
        traffic = None if a_weight is None else params.shape.parameters * a_weight
        return Counts(bytes=traffic, per_layer=params.cut)

    def memory(self, case: Case, devices: int = 1) -> float:
        """Weights, gradients and moments; the gate looks at a choice of elements and needs little beside."""
        params, precision = _params(case), case.precision
        kept = FORMATS[precision.moments] * moments_of(params.optimizer, params.shape)
        return (2 * FORMATS[precision.stored] * params.shape.parameters + kept) / devices

    def impls(self) -> Mapping[str, Impl]:
        """The framework's forms of an optimizer, and the best of them."""
        eager = {
            "torch": "the framework's fused form where one works, else over lists of tensors; `path` says which",
            "fused": "one kernel for weights, gradients and moments",
            "foreach": "each operation over lists of tensors",
            "for-loop": "each operation tensor after tensor",
        }
        found = {name: _eager(name, summary) for name, summary in eager.items()}
        found["torch.compile"] = Impl(
            name="torch.compile", impl_class="graph", build=_compiled,
            unsupported=lambda case, backend: backend.uncompilable() or _unsupported("torch.compile", case, backend),
            summary="the form over lists of tensors, compiled",
        )  # fmt: skip
        return autotuned(found)

    def open(self, case: Case, impl: Impl, backend: Backend, seed: int) -> OptimizerStepSession:
        """Weights and gradients on the device."""
        return OptimizerStepSession(case, impl, backend, seed)


class OptimizerStepSession(Session):
    """Weights, gradients and moments of one impl.

    Attributes:
        input_digest: of weights and gradients as made.
    """

    def __init__(self, case: Case, impl: Impl, backend: Backend, seed: int) -> None:
        self._case = case
        self._updater: Updater
        self._step: Callable[[], object]
        self._updater, self._step = impl.build(case, backend)
        source = Source(seed)
        self._updater.fill(source, case.distribution)
        self.input_digest = source.digest()

    def run(self, slot: int) -> object:
        """One step of the optimizer, from the same gradients every time."""
        return self._step()

    def check(self, generation: int) -> Accuracy:
        """Three steps by the timed body, from other weights and gradients and no moments, against float64."""
        from perwatt.accuracy import optimizer_step

        return optimizer_step.examine(
            self._updater, lambda: self.run(0), _params(self._case), self._case.precision, generation
        )

    def path(self) -> str:
        """Forms of the optimizer's operations that one untimed step really ran."""
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            self.run(0)
        names = {event.name for event in profiled.events()}
        marks = {"inductor": ("CompiledFxGraph", "Torch-Compiled"), "fused": ("_fused_",), "foreach": ("_foreach_",)}
        seen = [form for form, words in marks.items() if any(word in name for name in names for word in words)]
        if "fused" in seen:  # its counts of steps, where it has any, are added up over lists
            seen = [form for form in seen if form != "foreach"]
        alone = not seen or _params(self._case).optimizer == "muon"  # Muon itself goes tensor after tensor
        return " ".join((["for-loop"] if alone else []) + seen)

    def close(self) -> None:
        """Let go of the tensors."""
        for name in ("_updater", "_step"):
            vars(self).pop(name, None)


def _params(case: Case) -> OptimizerStepParams:
    params: OptimizerStepParams = case.params  # type: ignore[assignment]
    return params


def _eager(name: str, summary: str) -> Impl:
    form = "" if name == "torch" else name

    def build(case: Case, backend: Backend) -> tuple[Updater, Callable[[], object]]:
        from perwatt.models.updater import Updater

        updater = Updater(_params(case), case.precision, backend.device, form)
        return updater, updater.step

    return Impl(name=name, impl_class="eager", build=build, unsupported=partial(_unsupported, name), summary=summary)


def _compiled(case: Case, backend: Backend) -> tuple[Updater, Callable[[], object]]:
    from perwatt.models.updater import Updater

    updater = Updater(_params(case), case.precision, backend.device, "foreach")
    return updater, compiled(updater.step, backend)


def _unsupported(impl: str, case: Case, backend: Backend) -> str | None:
    """What an impl cannot do. Asked where no device was started, so nothing is tried out."""
    params, precision = _params(case), case.precision
    if precision.name not in POLICIES:
        return f"optimizer_step has no {precision.name} yet (there are {', '.join(POLICIES)})"
    if params.optimizer == "muon" and impl != "torch":
        return "torch.optim.Muon has one form, over tensor after tensor, which is impl torch"
    if impl == "fused" and backend.name not in FUSED_ON:
        return f"torch has no fused {params.optimizer} on {backend.name} (it has on {' and '.join(FUSED_ON)})"
    if (
        impl == "fused"
        and params.optimizer == "sgd"
        and backend.name == "cpu"
        and FORMATS[precision.stored] < FORMATS["fp32"]
    ):
        return "fused SGD on cpu leaves 16-bit parameters as they were (pytorch/pytorch#191763)"
    if (
        impl in ("foreach", "for-loop")
        and precision.moments == "fp16"
        and params.optimizer == "adamw"
        and params.eps < SMALLEST_FP16
    ):
        return f"eps {params.eps:g} is zero in fp16, in which {impl} adds it: a gradient of zero would give NaN"
    return params.unsupported(precision)


WORKLOAD = OptimizerStep()
