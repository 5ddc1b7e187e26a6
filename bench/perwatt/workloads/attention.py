"""Scaled dot-product attention, forward and backward: the part of a step that grows with the square of the sequence.

Stands for: attention between the projections of a layer.
Formula: softmax(Q K^T x scale + mask) V in every head, several query heads to a key head where they are grouped.
FLOPs: a forward is two products over the visible query-key pairs (scores, and weights times values), 4 x pairs x
head_dim operations a head; a backward is four (to values, weights, queries and keys), 8 x pairs x head_dim. What a
kernel recomputes counts for nothing. Causal attention of S tokens sees S (S + 1) / 2 pairs.
Bytes: queries, keys, values and result once; the backward moves all of them and their gradients.
Gate: first and last rows and those at tile edges in every key head, the log-sum-exp, and all gradients, at most twice
the error of the framework's written-out path.
Leaves out: the projections, rotation, soft caps and additive biases.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from perwatt.errors import InputError
from perwatt.spec.data import Recipe
from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads import kernels
from perwatt.workloads.base import Counts, Impl, Workload
from perwatt.workloads.operation import OperationSession, Tensors
from perwatt.workloads.variants import plain
from perwatt_kernels.attention.mask import pairs
from perwatt_kernels.dtypes import dtype

if TYPE_CHECKING:
    from torch import Tensor

    from perwatt.backends.base import Backend
    from perwatt.spec.case import Case

WRITTEN_OUT = {"torch", "torch.compile", "sdpa-math", "reference"}
REPEATING = {"torch", "torch.compile", "reference", "sdpa-efficient"}
"""Implementations that may repeat the heads of keys and values."""
Length = Field(default=0, ge=0, le=2**24)


class AttentionParams(BaseModel):
    """Parameters of attention.

    Attributes:
        batch: sequences.
        heads: heads of queries.
        kv_heads: heads of keys and values; as many as ``heads`` unless given.
        seq: sets ``q_len`` and ``kv_len`` where they are not given.
        q_len: queries of a sequence.
        kv_len: keys and values of a sequence.
        head_dim: width of a head.
        causal: query i sees keys 0 to i, aligned at the top left.
        window: only the nearest so many keys are seen, the query's own included; 0 for all.
        varlen: lengths of the documents packed into each sequence, which do not see each other.
        scale: of the scores; 1 / sqrt(head_dim) unless given.
        dropout: probability with which a weight is dropped.
        layout: order in memory, ``bshd`` as projections leave it, or ``bhsd``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    batch: int = Field(default=1, ge=1, le=2**20)
    heads: int = Field(ge=1, le=2**14)
    kv_heads: int = Field(default=0, ge=0, le=2**14)
    seq: int = Length
    q_len: int = Length
    kv_len: int = Length
    head_dim: int = Field(ge=1, le=2**12)
    causal: bool = True
    window: int = Length
    varlen: tuple[int, ...] | None = None
    scale: float = Field(default=0.0, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    layout: Literal["bshd", "bhsd"] = "bshd"

    @model_validator(mode="after")
    def _resolve(self) -> AttentionParams:
        defaults = {
            "kv_heads": self.heads, "q_len": self.seq, "kv_len": self.seq or self.q_len, "scale": self.head_dim**-0.5,
        }  # fmt: skip
        for name, value in defaults.items():
            object.__setattr__(self, name, getattr(self, name) or value)
        object.__setattr__(self, "seq", 0)
        if not self.q_len or not self.kv_len:
            raise ValueError("attention needs seq, or q_len and kv_len")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads {self.kv_heads} does not divide heads {self.heads}")
        if self.window >= max(self.q_len, self.kv_len):
            object.__setattr__(self, "window", 0)  # it hides nothing, so it may not change the key
        if self.window and self.q_len >= self.kv_len + self.window:
            raise ValueError(
                f"with window {self.window} the last of {self.q_len} queries sees none of {self.kv_len} keys"
            )
        if self.varlen is not None:
            self._check_documents(self.varlen)
        return self

    def _check_documents(self, lengths: tuple[int, ...]) -> None:
        if any(length < 1 for length in lengths) or not sum(lengths) == self.q_len == self.kv_len:
            raise ValueError(f"varlen sums to {sum(lengths)}, but q_len is {self.q_len} and kv_len {self.kv_len}")
        if len(lengths) == 1:
            object.__setattr__(self, "varlen", None)

    @property
    def pairs(self) -> int:
        """Visible query-key pairs of one head."""
        return _pairs(self.q_len, self.kv_len, self.causal, self.window, self.varlen)


@lru_cache(maxsize=256)
def _pairs(q_len: int, kv_len: int, causal: bool, window: int, varlen: tuple[int, ...] | None) -> int:
    return pairs(q_len, kv_len, {"causal": causal, "window": window, "varlen": varlen})


class Attention(Workload):
    """See the module."""

    name = "attention"
    summary = "scaled dot-product attention: causal or full, grouped-query, windowed, packed"
    Params = AttentionParams
    passes = ("fwd", "bwd", "fwd+bwd")
    default_impls = ("sdpa",)

    def check(self, params: AttentionParams, pass_: str) -> None:
        """Dropped weights differ between forward and reference, so their gradients cannot be checked."""
        if params.dropout and pass_ != "fwd":
            raise InputError(f"found {params.dropout}, expected 0 with pass {pass_}", field="params.dropout")

    def describe(self, params: AttentionParams, precision: Precision) -> dict[str, Any]:
        """``seq`` only sets the two lengths, so it is left out."""
        return params.model_dump(mode="json", exclude={"seq"})

    def sequence(self, params: AttentionParams) -> int:
        """Of queries or of keys."""
        return max(params.q_len, params.kv_len)

    def label(self, params: AttentionParams) -> str:
        """``1x8/2x1024x64 causal``: batch x heads/kv_heads x length x head_dim."""
        heads = f"{params.heads}/{params.kv_heads}" if params.heads != params.kv_heads else f"{params.heads}"
        length = f"{params.q_len}" if params.q_len == params.kv_len else f"{params.q_len}:{params.kv_len}"
        marks = ["causal" if params.causal else "full"]
        marks += [f"window {params.window}"] if params.window else []
        marks += [f"{len(params.varlen)} documents"] if params.varlen else []
        marks += [f"dropout {params.dropout:g}"] if params.dropout else []
        marks += [params.layout] if params.layout != "bshd" else []
        return f"{params.batch}x{heads}x{length}x{params.head_dim} {' '.join(marks)}"

    def counts(self, params: AttentionParams, pass_: str, precision: Precision) -> Counts:
        """Operations of the visible pairs; queries, keys, values, results and their gradients moved once."""
        products = {"fwd": 2, "bwd": 4, "fwd+bwd": 6}[pass_]
        flops = 2.0 * products * params.batch * params.heads * params.pairs * params.head_dim
        read, written = FORMATS[precision.operands], FORMATS[precision.activations]
        queries = params.batch * params.heads * params.q_len * params.head_dim
        keys = params.batch * params.kv_heads * params.kv_len * params.head_dim
        forward = (queries + 2 * keys) * read + queries * written
        backward = (2 * queries + 4 * keys) * read + 2 * queries * written  # result and its gradient are read again
        moved = {"fwd": forward, "bwd": backward, "fwd+bwd": forward + backward}[pass_]
        return Counts(flops=flops, bytes=moved)

    def memory(self, case: Case, devices: int = 1) -> float:
        """Operands and results, and what an implementation makes besides.

        Written out, these are the scores of every head, in float32 and in the compute format; where key heads are
        repeated, all of them, and their gradients; with a window the mask, and what it becomes when it is added.
        """
        params: AttentionParams = case.params  # type: ignore[assignment]
        impls, width = set(map(plain, case.impls)), FORMATS[case.precision.activations]
        needed = self.counts(params, case.pass_, case.precision).bytes or 0.0
        if impls & WRITTEN_OUT:
            scores = params.batch * params.heads * params.q_len * params.kv_len
            needed += scores * (8.0 if case.grad else 6.0)
        if impls & REPEATING and params.kv_heads < params.heads:
            keys = params.batch * params.heads * params.kv_len * params.head_dim
            needed += 2 * keys * width * (2 if case.grad else 1)
        if impls - WRITTEN_OUT and params.window:
            needed += params.q_len * params.kv_len * (1 + width)
        return needed

    def impls(self) -> Mapping[str, Impl]:
        """Kernels of operation ``attention``."""
        return kernels.impls("attention", lambda case: case.precision.activations)

    def unsupported(self, case: Case, impl: Impl, backend: Backend) -> str | None:
        """Policies with scales are of linear layers, and leave attention as it is."""
        if case.precision.scaling != "none":
            return f"{case.precision.name} is a policy of linear layers; under it attention is that of bf16"
        return super().unsupported(case, impl, backend)

    def open(self, case: Case, impl: Impl, backend: Backend, seed: int) -> OperationSession:
        """Queries, keys and values in their layout on the device, the kernel built."""
        params: AttentionParams = case.params  # type: ignore[assignment]
        place = _placer(params, case.precision.operands, backend)
        query = (params.batch, params.heads, params.q_len, params.head_dim)
        key = (params.batch, params.kv_heads, params.kv_len, params.head_dim)
        recipes = [Recipe(name=n, shape=s, kind=case.distribution) for n, s in (("q", query), ("k", key), ("v", key))]
        return OperationSession(
            case=case, backend=backend, seed=seed, function=impl.build(case, backend),
            operands=Tensors(recipes, place),
            cotangent=Tensors(
                [Recipe(name="do", shape=query, kind=case.distribution)],
                _placer(params, case.precision.activations, backend),
            ),
            verify=_verifier(params, case.precision),
            set_bytes=self.counts(params, "fwd", case.precision).bytes or 0.0, captured=impl.captured,
        )  # fmt: skip


def _placer(params: AttentionParams, format_name: str, backend: Backend) -> Any:
    def lay(recipe: Recipe, tensor: Tensor) -> Tensor:
        tensor = tensor.to(device=backend.device, dtype=dtype(format_name))
        return tensor.transpose(1, 2).contiguous().transpose(1, 2) if params.layout == "bshd" else tensor

    return lay


def _verifier(params: AttentionParams, precision: Precision) -> Any:
    def verify(operands: Any, incoming: Any, result: Any, gradients: Any) -> Any:
        from perwatt.accuracy import attention

        seen = [t.to(dtype(precision.compute)) for t in operands]  # under autocast they arrive in float32
        return attention.check(seen, incoming, result, gradients, params.model_dump(), precision.compute)

    return verify


WORKLOAD = Attention()
