"""Rows from a table: printed figures in their columns, and what follows from them by our own count and peaks.

An iteration of a published training row is one sequence, of `time_to_train` one whole training.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from perwatt.results.published import peaks
from perwatt.results.published.entry import Entry
from perwatt.results.published.tables import Table
from perwatt.results.schema import SCHEMA_VERSION, Row
from perwatt.spec.model import ModelShape
from perwatt.spec.precision import POLICIES, policy
from perwatt.workloads.gemm import WORKLOAD as GEMM
from perwatt.workloads.gemm import GemmParams
from perwatt.workloads.train_params import TrainStepParams
from perwatt.workloads.train_step import WORKLOAD

PASSES = {"train_step": "step"}
DIGITS = 9  # of what is not whole; no source prints half as many
EMPTY: dict[str, Any] = dict.fromkeys(field.name for field in fields(Row))


def rows(table: Table) -> list[Row]:
    """Rows of a table, in its order."""
    return [row(table, entry) for entry in table.rows]


def row(table: Table, entry: Entry) -> Row:
    """One row."""
    source = table.sources[entry.source]
    cells: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION, "run_id": f"published-{table.name}", "suite": table.name,
        "case": label(entry), "workload": entry.workload, "pass_": entry.pass_ or PASSES.get(entry.workload),
        "precision": entry.precision, "impl": entry.impl, "source": source.where,
        "source_date": entry.date or source.date, "grade": entry.grade or source.grade, "printed": entry.text,
        "chip": entry.chip_called or entry.chip, "chips": _chips(entry), "placement": entry.placement,
        "instance_type": entry.instance_type, "lnc": entry.lnc, "parallel": entry.parallel, "status": "ok",
        "time_evidence": "published", "energy_evidence": "none", "power_source": "none",
        "flops_convention": entry.convention, "printed_mfu": _share(entry.printed.mfu),
        "printed_tflops_per_chip": entry.printed.rate, "power_limit_w": entry.power_limit_w,
        "gbps": entry.printed.gbps,
    }  # fmt: skip
    if entry.workload == "train_step":
        cells |= {"mode": "shard", "replicas": 1, "flags": "experts" if entry.model in table.sparse else None}
    if entry.unit == "device":
        cells |= {"mode": "replicate", "replicas": 1, "devices_used": 1, "devices_per_chip": _devices(entry)}
    shape = table.shape(entry)
    cells |= _work(entry, shape) | _rates(entry, shape) | _energy(entry)
    return Row(**EMPTY | {name: _short(value) for name, value in cells.items()})


def label(entry: Entry) -> str:
    """What tells the row from all others of its table: ``mpt-7b seq 2048 bf16, 8 x h100-sxm``."""
    shape = f"{entry.m}x{entry.n}x{entry.k}" if entry.m else None
    seq = f"seq {entry.seq}" if entry.seq else None
    work = " ".join(filter(None, (entry.model, entry.what, shape, seq, entry.precision)))
    chip = entry.chip_called or entry.chip or ""
    where = f"one device of {chip}" if entry.unit == "device" else f"{entry.chips} x {chip}" if entry.chips else chip
    return ", ".join(filter(None, (work, where, entry.detail)))


def flops_per_token(shape: ModelShape, seq: int) -> float:
    """By our own count, that of a training step."""
    params = TrainStepParams(model=shape.model_dump(mode="json"), batch=1, seq=seq)
    return (WORKLOAD.counts(params, "step", policy("bf16_master")).flops or 0.0) / seq


def _work(entry: Entry, shape: ModelShape | None) -> dict[str, Any]:
    """Operations, tokens and compulsory traffic of an iteration, by our count.

    Traffic is that of a product with operands and result in one format, which the row's has to name: ``fp8 e5m2`` does
    not say its result's.
    """
    if entry.m and entry.n and entry.k:
        flops = 2.0 * entry.m * entry.n * entry.k
        if entry.workload != "gemm" or entry.precision not in POLICIES:
            return {"flops": flops}
        counts = GEMM.counts(GemmParams(m=entry.m, n=entry.n, k=entry.k), "fwd", policy(entry.precision))
        return {"flops": flops, "bytes": counts.bytes}
    if shape is None or entry.seq is None or entry.workload != "train_step":
        return {}
    return {"flops": flops_per_token(shape, entry.seq) * entry.seq, "tokens": float(entry.seq)}


def _rates(entry: Entry, shape: ModelShape | None) -> dict[str, Any]:
    """Times and rates, all in our count; a rate that a kernel's source prints is its own."""
    cells: dict[str, Any] = {}
    tokens = entry.tokens_per_s_per_chip
    if entry.printed.minutes:
        cells["time_s"] = entry.printed.minutes * 60
    if entry.printed.time_us:
        cells["time_s"] = entry.printed.time_us / 1e6
    if tokens:
        cells |= {"tokens_per_s_per_chip": tokens, "tokens_per_s": tokens * entry.chips if entry.chips else None}
    if (rate := own_tflops(entry, shape)) is None:
        return cells
    if entry.unit == "device":
        cells["tflops"] = rate
    else:
        cells |= {"tflops_per_chip": rate, "tflops": rate * entry.chips if entry.chips else None}
    if whole := entry.whole:
        cells |= {"peak_tflops": whole.tflops, "peak_basis": whole.basis, "mfu": rate / whole.tflops}
    return cells


def own_tflops(entry: Entry, shape: ModelShape | None) -> float | None:
    """Of a chip, or of a device where the row is of one; None where our count does not cover the work."""
    if entry.workload == "train_step":
        if shape is None or entry.seq is None or entry.tokens_per_s_per_chip is None:
            return None
        return flops_per_token(shape, entry.seq) * entry.tokens_per_s_per_chip / 1e12
    if entry.m and entry.n and entry.k and entry.printed.time_us:
        return 2.0 * entry.m * entry.n * entry.k / entry.printed.time_us / 1e6
    return entry.printed.tflops if entry.unit == "device" else entry.printed.rate


def _energy(entry: Entry) -> dict[str, Any]:
    if entry.printed.energy_mj is None:
        return {}
    return {
        "energy_j": entry.printed.energy_mj * 1e6, "energy_evidence": "published", "power_source": "published",
        "power_scope": entry.power_scope,
    }  # fmt: skip


def _chips(entry: Entry) -> float | None:
    return float(entry.chips) if entry.chips and entry.unit == "chip" else None


def _devices(entry: Entry) -> int | None:
    return peaks.sheet(entry.chip).devices_per_chip(entry.lnc) if entry.chip else None


def _short(value: Any) -> Any:
    """A number without the dust of binary fractions: 62.4, not 62.400000000000006. Counts stay as they are."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) and not value.is_integer() else value


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100
