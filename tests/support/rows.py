"""Rows to test with."""

from __future__ import annotations

from typing import Any

from perwatt.results.schema import SCHEMA_VERSION, Row, columns, header_name
from perwatt.spec import work

WORK = {"workload": "gemm", "pass": "fwd", "precision": {"name": "fp32"}, "params": {"m": 2, "n": 3, "k": 4}}
FILLED: dict[str, Any] = {
    "schema_version": SCHEMA_VERSION, "run_id": "r1", "started_at": "2026-01-02T03:04:05.678+00:00", "suite": "smoke",
    "case": "gemm 2x3x4 fwd fp32", "seed": 0, "method": "direct", "impl": "torch", "impl_class": "eager", "path": "mm",
    "backend": "cpu", "chip": "A chip", "placement": "device", "mode": "replicate", "replicas": 1, "world_size": 1,
    "devices_used": 1, "chips": 1.0, "status": "ok", "flags": "within_run_only few_effective_samples",
    "time_evidence": "measured", "energy_evidence": "none", "power_source": "none", "cache": "hot",
    "time_s": 2e-6, "time_s_lo": 1e-6, "time_s_hi": 3e-6, "time_s_p10": 1e-6, "time_s_p90": 3e-6, "samples": 3,
    "flops": 48.0, "tflops": 48.0 / 2e-6 / 1e12, "rel_err": 1e-7, "rel_err_bound": 1e-5, "limiter": "none",
}  # fmt: skip


def make(work_object: dict[str, Any] = WORK, **changes: Any) -> Row:
    """A row that is right in every way, with these cells changed."""
    protocol = {"cache": changes.get("cache", "hot") or "", "method": changes.get("method", "direct")}
    keys = {
        "work": work.canonical(work_object),
        "match_key": work.match_key(work_object),
        "task_key": work.task_key(work_object),
        "protocol_key": work.protocol_key(**protocol),
        "workload": work_object["workload"],
        "pass_": work_object["pass"],
        "precision": work_object["precision"]["name"],
    }
    cells = {**FILLED, **keys, **changes}
    statuses = {name: columns()[header_name(name)].statuses for name in cells}
    return Row(**{n: v for n, v in cells.items() if cells["status"] in statuses[n] or n in changes})
