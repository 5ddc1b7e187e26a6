"""What ``perwatt kernels selftest`` has a kernel do, found by a scan: a module defines ``SELFTESTS``, one or several.

Other distributions add theirs through the entry point ``perwatt.selftests``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perwatt import plugins


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Cases of one size.

    Attributes:
        params: of the workload, without those of the variants.
        formats: precision policies.
        simulated: whether the interpreter does them in seconds.
        passes: of the workload; those of the self-test where there are none.
    """

    params: Mapping[str, Any]
    formats: tuple[str, ...]
    simulated: bool = False
    passes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTest:
    """What one kernel is to do, from the tiniest size to full ones.

    Attributes:
        operation: of the kernel.
        impl: its name among the kernels of that operation, and among the workload's implementations.
        workload: that calls it, and whose gate judges it.
        variants: further parameters, each with every size.
        passes: of the workload.
        steps: sizes in ascending order.
        fallback: implementation that stands in for it where it fails.
        compiled: whether the function that launches it is given to ``torch.compile``.
        vendor: whether the kernel is the chip's vendor's; that it runs says nothing of any that are written here.
    """

    operation: str
    impl: str
    workload: str
    steps: tuple[Step, ...]
    fallback: str
    variants: tuple[Mapping[str, Any], ...] = ({},)
    passes: tuple[str, ...] = ("fwd",)
    compiled: bool = False
    vendor: bool = False

    @property
    def name(self) -> str:
        """Unique name among all self-tests."""
        return f"{self.operation}/{self.impl}{' compiled' if self.compiled else ''}"


def selftests() -> dict[str, SelfTest]:
    """Self-tests by the kernel's name."""
    return plugins.find("perwatt_kernels", "SELFTESTS", "perwatt.selftests")
