"""The tests that every kernel declares: all tiny ones first, so that a kernel that is broken shows early."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from perwatt.errors import InputError, expected
from perwatt_kernels import registry
from perwatt_kernels.selftests import SelfTest, selftests

HOT = {"cache": "hot"}  # one set of operands: what is asked is whether it works


@dataclass(frozen=True, kw_only=True, slots=True)
class Test:
    """One case by one kernel.

    Attributes:
        kernel: name of the kernel, such as ``matmul/nki``.
        label: of the case.
        case: its plain fields, for :func:`perwatt.spec.case.build`.
        impl: of the workload.
        fallback: implementation that is tried where it fails.
        compiled: whether the function that launches it is given to ``torch.compile``.
        vendor: whether the kernel is the chip's vendor's.
    """

    kernel: str
    label: str
    case: dict[str, Any]
    impl: str
    fallback: str
    compiled: bool = False
    vendor: bool = False

    @property
    def name(self) -> str:
        """``matmul/nki: gemm 128x128x128 fwd bf16``."""
        return f"{self.kernel}: {self.label}"


def plan(only: Iterable[str] = (), *, device: str = "neuron", simulated: bool = False) -> list[Test]:
    """Tests in order.

    Args:
        only: parts of names; a test is kept where its name has one of them. All without any.
        device: kind of device; tests of kernels that are declared for others are left out.
        simulated: those alone that a simulation does in seconds.

    Raises:
        InputError: a part fits no test.
    """
    every = [test for _, _, test in sorted(_all(device, simulated), key=lambda one: one[:2])]
    kept: list[Test] = []
    wanted = list(only)
    for part in wanted:
        if not any(part in test.name for test in every):
            raise InputError(expected(part, {test.kernel for test in every}, "a kernel"), field="--only")
    for test in every:
        if not wanted or any(part in test.name for part in wanted):
            kept.append(test)
    return kept


def _all(device: str, simulated: bool) -> Iterator[tuple[int, int, Test]]:
    """Each with the place of its size and of its kernel."""
    for place, own in enumerate(selftests().values()):
        declared = registry.kernels(own.operation)[own.impl].devices
        if declared and device not in declared:
            continue
        for at, step in enumerate(own.steps):
            if simulated and not step.simulated:
                continue
            for variant in own.variants:
                for pass_ in step.passes or own.passes:
                    for precision in step.formats:
                        yield at, place, _test(own, {**step.params, **variant}, pass_, precision)


def _test(own: SelfTest, params: dict[str, Any], pass_: str, precision: str) -> Test:
    from perwatt.spec.case import build

    fields = {
        "workload": own.workload, "params": params, "pass": pass_, "precision": precision,
        "impl": list(dict.fromkeys((own.impl, own.fallback))), "measure": HOT,
    }  # fmt: skip
    case = build(fields)
    return Test(
        kernel=own.name, label=case.name, case=case.message(), impl=own.impl, fallback=own.fallback,
        compiled=own.compiled, vendor=own.vendor,
    )  # fmt: skip
