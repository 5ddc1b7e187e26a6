"""The parts that a training step is made of, as cases of the workloads that measure them by themselves.

On each of several devices a step takes its share of the sequences, in micro-batches; `fsdp` cuts the optimizer's work
too. With recomputation every layer's forward is done twice. What no workload measures alone (activations, additions to
the stream, casts, clipping, communication, waiting) is in no part, and so in the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from perwatt.errors import InputError
from perwatt.results.schema import Row
from perwatt.spec.model import ModelShape

GROUPS = ("products", "attention", "memory", "loss", "optimizer")
BY_MEMORY = ("memory", "optimizer")
"""Groups that the memory's bandwidth limits; products limit the others."""
HALVES = ("fwd", "bwd")
PRODUCTS, TRAFFIC, EVEN = (1 / 3, 2 / 3), (2 / 5, 3 / 5), (1 / 2, 1 / 2)
"""Shares of forward and backward: two products against four, two passes over the rows against three, or as many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One piece of a step.

    Attributes:
        group: of :data:`GROUPS`.
        name: for people.
        count: times in a step.
        workload: that measures it, with its ``params`` as far as they matter here, and ``pass_``.
        beside: sizes that the work is not proportional to.
        share: of forward and backward together, by operations or by traffic.
    """

    group: str
    name: str
    count: int
    workload: str
    params: Mapping[str, Any]
    pass_: str
    beside: tuple[str, ...] = ()
    share: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What a row says of its step, for each device.

    Attributes:
        shape: of the model.
        micro: sequences in a micro-batch, of which ``accum`` make a step.
    """

    shape: ModelShape
    micro: int
    accum: int
    seq: int
    optimizer: str
    recompute: bool
    shards: int

    @property
    def tokens(self) -> int:
        """Of a micro-batch."""
        return self.micro * self.seq


def step(row: Row) -> Step:
    """The step of a row.

    Raises:
        InputError: its source does not specify the work, as of published rows.
    """
    if row.work is None:
        raise InputError(f"found no work of {row.case!r}, expected a row of a run", field="work")
    params = json.loads(row.work)["params"]
    if not isinstance(params.get("model"), dict):
        raise InputError(f"found no shape of a model in {row.case!r}, expected a training step's", field="work")
    devices = row.devices_used or 1 if row.mode == "shard" else 1
    batch = int(params["batch"]) // devices
    accum = row.grad_accum or 1
    return Step(
        shape=ModelShape(**params["model"]), micro=row.micro_batch or max(batch // accum, 1), accum=accum,
        seq=int(params["seq"]), optimizer=str(params["optimizer"]), recompute=row.recompute == "full",
        shards=devices if row.parallel == "fsdp" else 1,
    )  # fmt: skip


def parts(of: Step) -> Iterator[Part]:
    """All parts, those of the layers first."""
    for name, n, k in _linear(of.shape):
        for product in ("fwd", "dgrad", "wgrad"):
            again = 2 if product == "fwd" and of.recompute else 1
            yield Part(
                group="products", name=f"{name} {product}", count=of.shape.layers * of.accum * again, workload="gemm",
                params={"m": _rows(of, name), "n": n, "k": k, "product": product, "batch": 1}, pass_="fwd",
            )  # fmt: skip
    yield from _layers(of)
    yield from _ends(of)


def _linear(shape: ModelShape) -> Iterator[tuple[str, int, int]]:
    """Names, output and input features of a layer's products, as the model stores their weights."""
    width, branches = shape.heads * shape.head_dim, 2 if shape.gated else 1
    yield "qkv", width + 2 * shape.kv_heads * shape.head_dim, shape.hidden
    yield "output", shape.hidden, width
    yield "up", branches * shape.intermediate, shape.hidden
    yield "down", shape.hidden, shape.intermediate


def _rows(of: Step, name: str) -> int:
    """Rows of a product: the tokens, times the experts that each takes."""
    return of.tokens * (of.shape.experts_per_token or 1 if name in ("up", "down") else 1)


def _layers(of: Step) -> Iterator[Part]:
    """Attention, rotations and norms."""
    shape, tokens = of.shape, of.tokens
    attention = {
        "batch": of.micro, "heads": shape.heads, "kv_heads": shape.kv_heads, "q_len": of.seq, "kv_len": of.seq,
        "head_dim": shape.head_dim,
    }  # fmt: skip
    yield from _both(of, "attention", "attention", "attention", attention, shape.layers, PRODUCTS, ("kv_heads",))
    norm = {"tokens": tokens, "hidden": shape.hidden}
    if shape.norm == "rmsnorm":
        count = (4 if shape.post_norm else 2) * shape.layers
        yield from _both(of, "memory", "norms", "rmsnorm", norm, count, TRAFFIC)
        yield from _both(of, "memory", "last norm", "rmsnorm", norm, 1, TRAFFIC, layers=False)
    if shape.positions == "rope":
        for name, heads in (("queries", shape.heads), ("keys", shape.kv_heads)):
            rope = {"tokens": tokens, "heads": heads, "head_dim": shape.head_dim}
            yield from _both(of, "memory", f"rope of {name}", "rope", rope, shape.layers, EVEN)


def _ends(of: Step) -> Iterator[Part]:
    """What stands around the layers."""
    shape = of.shape
    table = {"tokens": of.tokens, "vocab": shape.vocab, "hidden": shape.hidden}
    yield from _both(of, "memory", "embedding", "embedding", table, 1, EVEN, ("vocab",), layers=False)
    yield from _both(of, "loss", "projection and loss", "lm_head_loss", table, 1, PRODUCTS, layers=False)
    yield Part(
        group="optimizer", name=of.optimizer, count=1, workload="optimizer_step",
        params={"optimizer": of.optimizer, "parameters": shape.parameters // of.shards}, pass_="step",
    )  # fmt: skip


def _both(
    of: Step, group: str, name: str, workload: str, params: Mapping[str, Any], count: int, shares: tuple[float, float],
    beside: tuple[str, ...] = (), *, layers: bool = True,
) -> Iterator[Part]:  # fmt: skip
    """Forward and backward; the forward of layers twice where they are computed again."""
    for half, share in zip(HALVES, shares, strict=True):
        again = 2 if layers and half == "fwd" and of.recompute else 1
        yield Part(
            group=group, name=f"{name} {half}", count=count * of.accum * again, workload=workload, params=params,
            pass_=half, beside=beside, share=share,
        )  # fmt: skip
