"""Commands that have to answer at once against a bare ``import click``, both as whole processes."""

import subprocess
import sys
from time import perf_counter
from typing import Any

import pytest

from perf.abba import compare

RUNS = 7


def _seconds(*command: str) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


def test_help_takes_at_most_three_times_a_bare_click(benchmark: Any) -> None:
    found = compare(
        benchmark, lambda: _seconds("-m", "perwatt", "--help"), lambda: _seconds("-c", "import click"), pairs=15
    )
    assert found.median <= 3.0


CHIPS = [(), ("trainium3",), ("--compare", "h100-sxm", "trainium3"), ("--json",)]


@pytest.mark.parametrize("arguments", CHIPS)
def test_chips_answer_in_half_a_second(arguments: tuple[str, ...]) -> None:
    """The fastest of several, since a first run reads files from disk and compiles modules."""
    assert min(_seconds("-m", "perwatt", "chips", *arguments) for _ in range(RUNS)) < 0.5


@pytest.mark.parametrize("arguments", CHIPS)
def test_chips_take_at_most_six_times_a_bare_click(benchmark: Any, arguments: tuple[str, ...]) -> None:
    """A bare ``import click`` takes some 80 ms, so that six times is half a second."""
    shown = ("-m", "perwatt", "chips", *arguments)
    found = compare(benchmark, lambda: _seconds(*shown), lambda: _seconds("-c", "import click"), pairs=15)
    assert found.median <= 6.0
