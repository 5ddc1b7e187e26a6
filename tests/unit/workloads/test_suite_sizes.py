"""Shipped suites fit a GPU of 80 GB, and hold what a ceiling is found by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.hopper import Cuda
from perwatt import configs
from perwatt.backends.base import Device
from perwatt.runner import preflight
from perwatt.spec import suite
from perwatt.spec.case import Case


class Sized(Cuda):
    """A GPU with so many bytes, on which everything that has a kernel works."""

    def __init__(self, memory_bytes: float) -> None:
        self.memory_bytes = memory_bytes

    def describe(self) -> Device:
        return Device(chip="H100", devices_per_chip=1, memory_bytes=self.memory_bytes, cache_bytes=50e6)

    def uncapturable(self) -> str | None:
        return None

    def untunable(self) -> str | None:
        return None

    def uncompilable(self) -> str | None:
        return None


def too_large(name: str, memory_bytes: float) -> list[str]:
    backend = Sized(memory_bytes)
    found = []
    for case in suite.load(name).cases:
        for impl in case.impls:
            reason = preflight.unsupported(case, impl, backend, sessions=1) or ""
            found += [f"{case.name} by {impl}: {reason}"] if "GB of memory" in reason else []
    return found


@pytest.mark.parametrize("name", configs.names("suites"))
def test_every_case_fits_80_gb(name: str) -> None:
    assert too_large(name, 80e9) == []


def test_what_would_not_fit_is_seen() -> None:
    assert too_large("full", 40e9)
    assert too_large("attention", 1e8)


@pytest.mark.parametrize("name", configs.names("suites"))
def test_graphs_stay_few(name: str) -> None:
    """Each set of operands has its own, so cold cases of tiny operands are not asked for as graphs."""
    reach = 3 * 50e6  # what cold operands exceed on an H100: three times 50 MB
    for case in suite.load(name).cases:
        if any(impl.endswith("+graph") for impl in case.impls) and case.cache == "cold":
            moved = case.workload.counts(case.params, "fwd", case.precision).bytes or 0.0
            assert reach / moved <= 1024, case.name


def gemms(name: str) -> list[Case]:
    return [case for case in suite.load(name).cases if case.workload.name == "gemm"]


def test_the_ceiling_of_every_format_is_looked_for() -> None:
    cases = [case for case in gemms("gemm") if case.workload.counts(case.params, "fwd", case.precision).flops >= 1e11]
    formats = {case.precision.name for case in cases}
    assert {"bf16", "fp16", "tf32", "fp32", "fp8_tensor_outside_fast", "fp8_row_outside_fast"} <= formats
    shapes = {(c.params.m, c.params.n, c.params.k) for c in cases if c.precision.name == "bf16"}  # type: ignore[attr-defined]
    assert {(8192, 8192, 8192), (2048, 2048, 13312)} <= shapes


def test_zeros_have_a_pair() -> None:
    zeros = [case for case in gemms("gemm") if case.distribution == "zeros"]
    keys = {case.match_key for case in gemms("gemm")}
    assert zeros
    assert all(replace(case, distribution="normal").match_key in keys for case in zeros)
