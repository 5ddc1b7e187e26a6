"""``perwatt --help`` against a bare ``import click``, both as whole processes."""

import subprocess
import sys
from time import perf_counter
from typing import Any

from perf.abba import compare


def _seconds(*command: str) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


def test_help_takes_at_most_three_times_a_bare_click(benchmark: Any) -> None:
    found = compare(
        benchmark, lambda: _seconds("-m", "perwatt", "--help"), lambda: _seconds("-c", "import click"), pairs=15
    )
    assert found.median <= 3.0
