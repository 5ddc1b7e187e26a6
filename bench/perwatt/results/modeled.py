"""Rows of the cost model: times worked out from counted instructions, never measured (docs/nki.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from perwatt.results.schema import SCHEMA_VERSION, Row
from perwatt.spec import case as cases
from perwatt.spec import work

SUITE = "kernels-cost"


@dataclass(frozen=True, kw_only=True, slots=True)
class Modeled:
    """What a model says of one kernel.

    Attributes:
        workload: kind of work.
        params: of the workload.
        precision: policy.
        impl: of the kernel.
        chip: name of the chip's sheet.
        lnc: cores of one device.
        devices_per_chip: with that many cores each.
        time_s: of one execution on one device.
        note: how the time came about, in one line.
        pass_: of the workload.
    """

    workload: str
    params: Mapping[str, Any]
    precision: str
    impl: str
    chip: str
    lnc: int
    devices_per_chip: int
    time_s: float
    note: str
    pass_: str = "fwd"


def row(found: Modeled) -> Row:
    """The row of it. It is of one device; cells of samples, health and energy stay empty."""
    fields = {
        "workload": found.workload,
        "params": dict(found.params),
        "precision": found.precision,
        "pass": found.pass_,
    }
    case = cases.build(fields)
    counts = case.workload.counts(case.params, case.pass_, case.precision)
    tflops = counts.flops / found.time_s / 1e12 if counts.flops else None
    return Row(
        schema_version=SCHEMA_VERSION, run_id=SUITE, started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        suite=SUITE, case=case.name, workload=found.workload, work=work.canonical(case.work), match_key=case.match_key,
        task_key=work.task_key(case.work), protocol_key=work.protocol_key(cache=case.cache, method="direct"),
        seed=0, pass_=case.pass_, method="direct", precision=found.precision, impl=found.impl, impl_class="kernel",
        path=found.note, backend="neuron", chip=found.chip, placement="device", mode="replicate", replicas=1,
        world_size=1, devices_used=1, devices_per_chip=found.devices_per_chip, lnc=found.lnc, status="ok",
        flags="modeled", time_evidence="modeled", energy_evidence="none", power_source="none", cache=case.cache or None,
        time_s=found.time_s, flops=counts.flops, bytes=counts.bytes, tokens=counts.tokens, tflops=tflops,
    )  # fmt: skip
