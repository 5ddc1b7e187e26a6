"""A row that is ok, to be changed where a test needs it."""

from __future__ import annotations

from perwatt.results.schema import SCHEMA_VERSION, Row

OK = Row(
    schema_version=SCHEMA_VERSION, run_id="R", started_at="2026-01-01T00:00:00+00:00", suite="s",
    case="gemm 1024x1024x1024 fwd fp32", workload="gemm", work="{}", match_key="m", task_key="t", protocol_key="p",
    seed=0, pass_="fwd", method="direct", precision="fp32", impl="torch", impl_class="eager", backend="cpu",
    chip="Test", placement="device", mode="replicate", replicas=1, world_size=1, devices_used=1, status="ok",
    time_evidence="measured", energy_evidence="none", power_source="none", time_s=0.01231, time_s_lo=0.01221,
    time_s_hi=0.01235, flops=2.1e9, tflops=0.1744,
)  # fmt: skip
