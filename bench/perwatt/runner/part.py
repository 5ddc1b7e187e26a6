"""What a worker sends back: one impl of one case, measured in one process. Rows are made from parts."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One impl of one case in one process, or its failure.

    Attributes:
        case: identity of the case in the suite.
        impl: name of the implementation.
        process: 0-based restart this part comes from.
        round: 0, or the number of a later visit of the same process under a time budget.
        impl_class: of what an impl that chooses among others took; None of all others.
        status: a :class:`perwatt.results.schema.Status` value.
        error: one line; empty when the status is ok.
        samples: seconds per iteration of each batch, in the order they were taken.
        minus: for method ``difference``, the batches of the pass that is taken off, pairwise with ``samples``.
        twin: under ``--aa``, what the same case measured against itself gave for each sample, less its own ``minus``.
        blocks: block number of each sample.
        ranks: for each rank of a placement of several devices, its own seconds per iteration in each of ``samples``.
        flags: marks for the row.
        health: fields of :class:`perwatt.backends.base.Health`.
        busy_s: durations of the device's kernels of an iteration, where handing over took most of its time.
        guards: changes of the backend's counters inside samples.
        elapsed_s: wall time that the impl took in all.
    """

    case: str
    impl: str
    process: int = 0
    round: int = 0
    impl_class: str | None = None
    status: str = "ok"
    error: str = ""
    path: str | None = None
    method: str = "direct"
    samples: list[float] = field(default_factory=list)
    minus: list[float] = field(default_factory=list)
    twin: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    ranks: list[list[float]] = field(default_factory=list)
    iters_per_sample: int = 0
    warmup_s: float | None = None
    stop_reason: str | None = None
    enqueue_s: float | None = None
    busy_s: float | None = None
    timing_method: str | None = None
    compile_cold_s: float | None = None
    compile_warm_s: float | None = None
    input_digest: str | None = None
    rel_err: float | None = None
    rel_err_bound: float | None = None
    peak_bytes: float | None = None
    flags: list[str] = field(default_factory=list)
    health: dict[str, Any] = field(default_factory=dict)
    guards: dict[str, int] = field(default_factory=dict)
    elapsed_s: float = 0.0

    def message(self) -> dict[str, Any]:
        """JSON form."""
        return {one.name: getattr(self, one.name) for one in fields(self)}  # plain values: copies would cost seconds

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Part:
        """The part of a JSON form; unknown keys of a newer writer are ignored."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in message.items() if name in known})
