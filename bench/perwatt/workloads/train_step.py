"""One training step of a decoder: forward, loss, backward, clipping, optimizer.

Stands for: itself; every other workload is a part of it.
Formula: tokens through the model, mean (or summed) cross entropy in float32 of each next token, all gradients,
scaled to a global norm of at most `clip`, one step of the optimizer at a constant learning rate.
FLOPs: three times the forward, which is 2 x tokens for each weight of a product (the output projection included, the
embedding not; of experts those that a token takes) and 4 x head_dim x heads for each visible query-key pair.
Bytes: not counted, as for all composites.
Gate: a reduced twin of the same code against float64: first loss, every gradient, three steps of the optimizer, twenty
steps that overfit one batch. Then the real model's loss and gradient norm against float32, where memory allows.
Leaves out: reading batches, schedules of the learning rate, dropout, auxiliary losses, and the choice of experts by
the router: each expert has equally many tokens, by a fixed rule that is part of the work (:mod:`perwatt.spec.routing`).

The batches are fixed and rotate. Nothing is read back from the device inside a step. Tokens are uniform over the
vocabulary. Weights start as the case's distribution scaled to a standard deviation of about 0.018, norms as ones.

A step may add up the gradients of several micro-batches, and compute layers again in the backward pass instead of
keeping what is inside them: both leave the mathematics alone, so they are columns and not part of the work.

On several devices that work as one (`mode: shard`) each takes its sequences of the batch. `parallel: fsdp` is torch's
`fully_shard` over layers and over the rest: weights, gradients and moments are cut by rows, gradients are summed in
float32. `parallel: ddp` is torch's DistributedDataParallel, every device with all of the state. The key is that of the
whole batch, and so is the gate, whose twin is spread as the real step is. Compiled is then each layer by itself.

In fp16 a mean loss is multiplied by 4096 before the backward pass and its gradients divided by it before clipping;
nothing looks for infinities, which would ask the device for a value. With AdamW and Muon it is `unsupported`: second
moments in fp16 lose the squares of gradients below 2.4e-4, and training diverges.

`BASE+NAME` takes the implementation NAME of each operation that has one of that name: attention and linear layers, as
`perwatt list impls` shows them, and the loss, of which there is `chunked`; `torch.compile+sdpa-cudnn`, `torch+auto`.
The others are the framework's. Several may follow, `torch.compile+auto+sdpa-flash+chunked`; of two with the same
operation the later one has it. What a kernel refuses makes the row `unsupported`. The path says what was taken of each
operation, and of `auto` why. The output projection belongs to the loss, products of experts are the framework's. Scores
with soft caps or ALiBi are written out in the model, so no kernel takes them.

`chunked` has the logits of some rows at a time, and takes their gradients at once, as in `lm_head_loss`. In
`bf16_master` the gradient of the head is added up in float32. It is not there yet for a bias of the projection, soft
caps of logits, or a step that is spread over devices.

Under an fp8 policy the linear layers of blocks quantize, by `torch._scaled_mm` unless another is named (`dequantize`
needs no such product).

`model` is a name from `perwatt list models`, the path of a Hugging Face `config.json`, or a shape (`hidden intermediate
layers heads kv_heads vocab`, and fields for activation, norms, biases, positions, windows, soft caps and experts). A
parameter that the optimizer does not have is refused. Muon orthogonalizes each matrix of the layers by itself, queries,
keys, values, gate and up apart; AdamW updates embedding, head and vectors, at the same learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from perwatt.errors import InputError
from perwatt.spec.data import Source
from perwatt.spec.precision import Precision
from perwatt.workloads.base import Accuracy, Counts, Impl, Session, Workload
from perwatt.workloads.compiled import compiled
from perwatt.workloads.model_params import WEIGHT_EXPONENT
from perwatt.workloads.step_impls import StepImpls, Way
from perwatt.workloads.train_memory import footprint, reference_bytes
from perwatt.workloads.train_params import TrainStepParams
from perwatt.workloads.variants import autotuned
from perwatt_kernels.matmul.scaled_impl import CUDA_MULTIPLE

if TYPE_CHECKING:
    from torch import Tensor

    from perwatt.backends.base import Backend
    from perwatt.models.spread import Alone
    from perwatt.models.trainer import Trainer
    from perwatt.spec.case import Case

SLOTS = 4  # batches in turn
POLICIES = ("fp32", "bf16", "fp16", "bf16_master", "bf16_autocast")
SDPA = {
    "_scaled_dot_product_flash_attention_for_cpu": "flash_cpu",
    "_scaled_dot_product_flash_attention": "flash",
    "_scaled_dot_product_efficient_attention": "efficient",
    "_scaled_dot_product_cudnn_attention": "cudnn",
    "_scaled_dot_product_attention_math": "math",
    "_scaled_dot_product_fused_attention_overrideable": "device",
}
"""Names for the operations that attention can end in."""


class TrainStep(Workload):
    """See the module."""

    name = "train_step"
    summary = "one training step of a decoder: forward, loss, backward, clipping, optimizer"
    Params = TrainStepParams
    paths = ("model",)
    passes = ("step",)
    layouts = ("fsdp", "ddp")
    cached = False

    def check(self, params: TrainStepParams, pass_: str) -> None:
        """The model must exist and have places for the whole sequence, the optimizer the constants that are given."""
        params.refuse_foreign()
        params.refuse_uneven()
        params.refuse_unknown_model()
        longest = params.shape.max_positions or params.context
        if 0 < longest < params.seq:
            message = f"found {params.seq}, expected at most the {longest} tokens that the model has positions for"
            raise InputError(message, field="params.seq")

    def describe(self, params: TrainStepParams, precision: Precision) -> dict[str, Any]:
        """The shape in place of the model's name; fields without a meaning spelled alike."""
        return params.work(precision)

    def sequence(self, params: TrainStepParams) -> int:
        """As given."""
        return params.seq

    def label(self, params: TrainStepParams) -> str:
        """``llama-tiny batch 4 seq 128 adamw``."""
        accumulated = f" in {params.grad_accum}" if params.grad_accum > 1 else ""
        again = "" if params.recompute == "none" else f" recompute {params.recompute}"
        return f"{params.called} batch {params.batch}{accumulated} seq {params.seq} {params.optimizer}{again}"

    def arrangement(self, params: TrainStepParams, devices: int = 1) -> dict[str, Any]:
        """Micro-batches of each device, and recomputation."""
        own = params.part(devices)
        return {"micro_batch": own.micro_batch, "grad_accum": own.grad_accum, "recompute": params.recompute}

    def undivided(self, case: Case, devices: int) -> str | None:
        """Sequences are not cut, nor the matrices that Muon orthogonalizes."""
        params = _params(case)
        if params.optimizer == "muon" and case.parallel == "fsdp" and devices > 1:
            return "muon orthogonalizes whole matrices, and fsdp cuts them by rows: use parallel ddp"
        if params.batch % devices == 0:
            return None
        able = ", ".join(str(count) for count in range(1, devices + 1) if params.batch % count == 0)
        sequences = f"{params.batch} sequence{'s' if params.batch > 1 else ''}"
        return f"a batch of {sequences} cannot be spread over {devices} devices, only over {able}"

    def counts(self, params: TrainStepParams, pass_: str, precision: Precision) -> Counts:
        """Three times the forward products, with the weights that a token meets and visible pairs only."""
        shape = params.shape
        forward = 2.0 * shape.linear_parameters * params.tokens
        forward += 4.0 * params.batch * shape.pairs(params.seq) * shape.head_dim * shape.heads
        return Counts(flops=3 * forward, tokens=params.tokens, per_layer=params.cut)

    def memory(self, case: Case, devices: int = 1) -> float:
        """Weights, moments, gradients, activations and logits at the step's peak, see :mod:`~.train_memory`.

        The gate needs no more: its twin is small, and its full-size part is left out where there is no room for it.
        """
        impls = self.impls()
        compiled = all(impls[name].impl_class == "graph" for name in case.impls)
        chunked = all(plan is not None and plan.chunked for plan in map(impls.plan, case.impls))
        over = devices if case.parallel else 1
        return footprint(_params(case), case.precision, compiled, over, case.parallel, chunked).peak

    def impls(self) -> StepImpls:
        """Eager, and forward with loss compiled as a whole; the optimizer is the framework's fused one in both.

        Each also with kernels by name, see :mod:`~.step_impls`.
        """
        own = {
            "torch": Impl(
                name="torch", impl_class="eager", build=lambda case, backend: lambda function: function,
                unsupported=_unsupported, summary="eager, fused attention and optimizer",
            ),
            "torch.compile": Impl(
                name="torch.compile", impl_class="graph", build=_compiled,
                unsupported=lambda case, backend: backend.uncompilable() or _unsupported(case, backend),
                summary="forward, loss and backward compiled; clipping and fused optimizer eager",
            ),
        }  # fmt: skip
        return StepImpls(autotuned(own))

    def near(self, impl: str) -> Iterable[str]:
        """With names that exist after those that do."""
        return self.impls().near(impl)

    def open(self, case: Case, impl: Impl, backend: Backend, seed: int) -> TrainStepSession:
        """Weights and batches on the device; of several ranks, this one's."""
        return TrainStepSession(case, impl, backend, seed)


class TrainStepSession(Session):
    """Model, optimizer state and batches of one impl.

    Attributes:
        input_digest: of the weights and tokens as made.
        flags: ``gate_reduced`` once the gate had no memory for the full-size reference.
    """

    slots = SLOTS

    def __init__(self, case: Case, impl: Impl, backend: Backend, seed: int) -> None:
        self._case, self._backend, self._seed = case, backend, seed
        self._way: Way = impl.build(case, backend)
        self._trainer = self._new(_params(case))
        self._twin: Trainer | None = None
        source = Source(seed)
        self._trainer.fill(source, case.distribution, WEIGHT_EXPONENT)
        self.input_digest = source.digest()

    def _new(self, params: TrainStepParams) -> Trainer:
        from perwatt.models.trainer import Trainer

        spread, way = spread_of(self._case, self._backend), self._way
        return Trainer(
            params, self._case.precision, self._backend.device, way.build, self.slots, spread,
            way.kernels(params.part(spread.world)), way.chunks,
        )  # fmt: skip

    def run(self, slot: int) -> Tensor:
        """One training step; the loss, or this rank's share of it, stays on the device."""
        return self._trainer.run(slot)

    def check(self, generation: int) -> Accuracy:
        """The twin against float64, then this model against float32 where memory allows."""
        from perwatt.accuracy import training
        from perwatt.accuracy.twin import twin_of

        if self._twin is None:
            self._twin = self._new(twin_of(self._trainer.params, self._trainer.spread.world, **self._kept()))
        seed = self._seed + (generation + 1) * training.FRESH_SEED
        results = [training.examine(self._twin, self._case.precision, seed)]
        results += training.finite(self._trainer)
        if Accuracy.worst(results).ok and self._reference_fits():
            results += training.full_size(self._trainer, Source(seed), self._case.precision)
        return Accuracy.worst(results)

    def _kept(self) -> dict[str, int]:
        """What the twin keeps of the case so that its kernels take it: width of heads, and of layers in 8 bits."""
        from perwatt.accuracy.twin import HEAD_DIM

        own = {"head_dim": max(self._trainer.params.shape.head_dim, HEAD_DIM)} if "attention" in self._way.names else {}
        return own | ({} if self._case.precision.scaling == "none" else {"multiple": CUDA_MULTIPLE})

    def _reference_fits(self) -> bool:
        """Whether the float32 reference has room beside this session; if not, a flag says so."""
        world = self._trainer.spread.world
        held = footprint(self._trainer.params, self._case.precision, devices=world, parallel=self._case.parallel)
        needed = held.weights + held.moments + reference_bytes(self._trainer.params)
        fits = needed <= self._backend.describe().memory_bytes
        self.flags = () if fits else ("gate_reduced",)
        return fits

    def path(self) -> str:
        """The attention operation that one untimed step really ran, after the compiler's word where it is compiled.

        ``written_out`` where scores are capped, which no operation of the framework does. Then the kernels that were
        taken by name, ``linear:dequantize``, those of several layers with commas.
        """
        from perwatt.backends.observe import operations

        seen = operations(lambda: self._backend.noted(lambda: self._trainer.run(0))).split()
        words = SDPA | {"inductor": self._backend.compiled}  # of the profiler
        names = [words[op] for op in seen if op in words]
        names += ["written_out"] if self._trainer.params.shape.attention_softcap else []
        return " ".join([*names, *(f"{operation}:{name}" for operation, name in self._way.names.items())])

    def close(self) -> None:
        """Let go of model, state and twin."""
        vars(self).pop("_trainer", None)
        self._twin = None


def spread_of(case: Case, backend: Backend) -> Alone:
    """How a case's step is spread over the ranks of this worker; new for every model."""
    from perwatt.models.spread import Alone, Copies, Shards

    if case.mode != "shard" or backend.world == 1:
        return Alone()
    return {"fsdp": Shards, "ddp": Copies}[case.parallel](backend.rank, backend.world)


def _params(case: Case) -> TrainStepParams:
    params: TrainStepParams = case.params  # type: ignore[assignment]
    return params


def _compiled(case: Case, backend: Backend) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda method: compiled(method, backend)


def _unsupported(case: Case, backend: Backend) -> str | None:
    """What no impl here can do yet."""
    params, precision = _params(case), case.precision
    if precision.scaling != "none" and params.shape.experts:
        return f"train_step has no {precision.name} with experts: their batched products are not quantized here"
    if precision.scaling == "none" and precision.name not in POLICIES:
        return f"train_step has no {precision.name} yet (there are {', '.join(POLICIES)})"
    if precision.moments == "fp16" and params.optimizer != "sgd":
        return (
            f"{params.optimizer} keeps second moments, and in fp16 the squares of gradients below 2.4e-4 are zero: "
            "training diverges in the float64 reference too (sgd keeps none)"
        )
    if params.dropout:
        return "train_step has no dropout: its masks differ between devices, so no gradient could be checked"
    work = params.work(precision)
    if reason := params.unsupported(precision):
        return reason
    if work["accumulate"] != "policy":
        return "accumulate other than the policy's is not there yet"
    if work["logits"] != "policy" and (work["logits"] != "bf16" or precision.activations != "fp32"):
        return f"logits in {work['logits']} are not there yet in {precision.name}"
    return None


WORKLOAD = TrainStep()
