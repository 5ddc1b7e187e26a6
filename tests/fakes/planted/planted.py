"""Kernels of somebody else's, each with a mistake that a self-test has to survive and to name."""

from __future__ import annotations

import os
import time
from typing import Any

from perwatt_kernels.registry import Kernel, Request
from perwatt_kernels.selftests import SelfTest, Step


def wrong(a: Any, b: Any) -> Any:
    found = a @ b
    found[0] += 1
    return found


def raises(a: Any, b: Any) -> Any:
    raise ValueError(f"planted in {os.getcwd()}\nand a second line")


def hangs(a: Any, b: Any) -> Any:
    while True:
        time.sleep(60)


def dies(a: Any, b: Any) -> Any:
    os._exit(7)


def _kernel(function: Any) -> Kernel:
    def build(request: Request) -> Any:
        return function

    return Kernel(operation="matmul", impl=f"planted-{function.__name__}", impl_class="kernel", build=build)


WANTED = os.environ.get("PLANTED", "wrong raises hangs dies").split()
MISTAKES = [mistake for mistake in (wrong, raises, hangs, dies) if mistake.__name__ in WANTED]
KERNELS = tuple(map(_kernel, MISTAKES))
SELFTESTS = tuple(
    SelfTest(
        operation="matmul", impl=kernel.impl, workload="gemm", fallback="torch",
        steps=(Step(params={"m": 8, "n": 8, "k": 8}, formats=("fp32",), simulated=True),),
    )
    for kernel in KERNELS
)  # fmt: skip
