"""A thousand CSVs with a million rows compared, in a process of its own; time and memory grow as the rows do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perwatt.results import csvfile
from perwatt.results.schema import Row
from support.rows import WORK, make

CASES = 1000  # rows of a file
FILES = (10, 100, 1000)
MOST_SECONDS, MOST_BYTES = 30.0, 2e9
MEASURE = """
import json, resource, sys, time
start = time.perf_counter()
import perwatt
sides = [perwatt.load(*files.split(), name=name) for name, files in zip("ab", sys.argv[1:])]
found = perwatt.compare(*sides)
seconds, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "rows": sum(len(side.rows) for side in sides), "pairs": len(found.pairs), "seconds": seconds,
    "cpu_seconds": used.ru_utime + used.ru_stime, "bytes": 1024 * used.ru_maxrss,
}))
"""


def _row(case: int) -> Row:
    work = {**WORK, "params": {"m": case, "n": 4096, "k": 4096, "batch": 1, "product": "fwd", "output": "fp32"}}
    return make(
        work, case=f"gemm {case}x4096x4096 fwd fp32", host="host", processes=1, n_eff=50.0, time_s_p10=None,
        time_s_p90=None, flops=2.0 * case * 4096 * 4096, peak_bytes=1e9, energy_evidence="measured",
        power_source="counter", power_scope="gpu_board",
    )  # fmt: skip


def _measured(row: Row, run: str, chip: str, time_s: float) -> Row:
    """The row as another run on another chip found it."""
    energy_j = 500.0 * time_s
    return replace(
        row, run_id=run, chip_id=chip, time_s=time_s, time_s_lo=0.998 * time_s, time_s_hi=1.002 * time_s,
        tflops=(row.flops or 0.0) / time_s / 1e12, energy_j=energy_j, energy_j_lo=0.99 * energy_j,
        energy_j_hi=1.01 * energy_j,
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Runs of a thousand cases, those of two sides by turns, on ten chips each."""
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(1)
    rows = [_row(case) for case in range(1, CASES + 1)]
    return [str(_written(rows, folder / f"{number:04}.csv", number, rng)) for number in range(max(FILES))]


def _written(rows: list[Row], path: Path, number: int, rng: np.random.Generator) -> Path:
    chip = f"{'ab'[number % 2]}{number // 2 % 10}"
    times = (np.exp(rng.normal(0.0, 0.005, len(rows))) * np.arange(1, len(rows) + 1) * 1e-5).tolist()
    csvfile.write((_measured(row, path.stem, chip, time_s) for row, time_s in zip(rows, times, strict=True)), path)
    return path


def _compared(files: list[str]) -> dict[str, Any]:
    """Figures of a comparison of every other file with the rest."""
    command = [sys.executable, "-c", MEASURE, " ".join(files[::2]), " ".join(files[1::2])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(1200)
def test_a_million_rows_are_compared_in_half_a_minute(files: list[str]) -> None:
    found = [_compared(files[:count]) for count in FILES]
    for one in found:
        print(f"{one['rows']:>9,} rows {one['seconds']:6.1f} s, {one['cpu_seconds']:6.1f} s of cores, "
              f"{one['bytes'] / 1e9:.2f} GB, {one['pairs']:,} pairs")  # fmt: skip
    assert [one["rows"] for one in found] == [count * CASES for count in FILES]
    assert found[-1]["bytes"] < MOST_BYTES
    assert found[-1]["cpu_seconds"] < 20 * found[-2]["cpu_seconds"], "ten times the rows, at most twice that in time"
    assert found[-1]["seconds"] < MOST_SECONDS
