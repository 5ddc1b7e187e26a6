"""Pooling: what one row says of several runs, what is kept apart, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import perwatt
from perwatt.analysis.pool import Pool, pool
from perwatt.analysis.pool import write as write_pool
from perwatt.errors import InputError
from perwatt.results import csvfile, validate
from perwatt.results.schema import Row
from perwatt.timing.statistics import estimate, pooled
from support.results import row, run, write

RNG = np.random.default_rng(3)


def drawn(processes: int, sigma: float = 0.01, size: int = 40) -> list[list[float]]:
    return [list(np.exp(RNG.normal(0, 0.005, size) + RNG.normal(0, sigma))) for _ in range(processes)]


def runs(folder: Path, count: int, change: Callable[[int], dict[str, Any]] = lambda _: {}) -> list[str]:
    made = [run(folder / f"r{n}", {1: drawn(2), 2: drawn(2)}, run_id=f"r{n}", **change(n)) for n in range(count)]
    return [str(path) for path in made]


def of_rows(folder: Path, *rows: Row) -> Pool:
    """Rows of runs without raw samples, each in a CSV."""
    return pool([str(write(folder, f"{number}.csv", [one])) for number, one in enumerate(rows)])


def test_processes_of_all_runs_are_pooled_as_one(tmp_path: Path):
    series = [drawn(2), drawn(3)]
    folders = [run(tmp_path / f"r{n}", {1: own}, run_id=f"r{n}") for n, own in enumerate(series)]
    (found,) = pool(map(str, folders)).rows
    right = pooled([*series[0], *series[1]])
    assert (found.time_s, found.time_s_lo, found.time_s_hi) == (right.median, right.lo, right.hi)
    assert (found.processes, found.samples, found.run_id[:5]) == (5, 200, "pool-")


def test_the_folder_is_valid_and_keeps_every_level(tmp_path: Path):
    found = pool(runs(tmp_path, 3, lambda n: {"chip_id": f"c{n % 2}"}))
    out = tmp_path / "out"
    write_pool(found, out)
    assert validate.check(out / "results.csv") == []
    lines = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert {(line["chip_id"], line["from_run"], line["from_process"]) for line in lines} == {
        (f"c{n % 2}", f"r{n}", process) for n in range(3) for process in range(2)
    }
    assert sum(len(line["samples"]) for line in lines) == 3 * 2 * 2 * 40
    original = json.loads((tmp_path / "r1" / "samples.jsonl").read_text().splitlines()[0])
    assert any(line["samples"] == original["samples"] and line["blocks"] == original["blocks"] for line in lines)


def test_chips_are_rows_that_compare_takes_for_chips(tmp_path: Path):
    found = pool(runs(tmp_path, 6, lambda n: {"chip_id": f"c{n % 3}"}))
    write_pool(found, tmp_path / "out")
    assert [(one.chip, len(one.runs), one.processes) for one in found.members if one.case == "gemm 1"] == [
        (f"c{n}", 2, 4) for n in range(3)
    ]
    other = perwatt.load(run(tmp_path / "other", {1: drawn(3)}, run_id="other", chip_id="c9"))
    compared = perwatt.compare(perwatt.load(tmp_path / "out"), other)
    assert {(pair.baseline.chips, pair.baseline.runs, pair.baseline.spread) for pair in compared.pairs} == {
        (3, 12, "samples")
    }
    (over, _) = found.over_chips
    assert (over.chips, over.processes) == (3, 12)
    assert over.time_s_lo is not None
    assert over.time_s_hi is not None
    assert over.time_s_lo < over.time_s < over.time_s_hi


def test_chips_of_one_number_differ_as_much_as_they_do(tmp_path: Path):
    """The interval over chips is that of their medians; samples that many times over make it no narrower."""
    slow = [np.array(drawn(4, sigma=0.0)) * factor for factor in (1.0, 1.1, 1.2)]
    folders = [
        run(tmp_path / f"r{n}", {1: own.tolist()}, run_id=f"r{n}", chip_id=f"c{n}") for n, own in enumerate(slow)
    ]
    folders.append(run(tmp_path / "r3", {1: slow[0].tolist()}, run_id="r3", chip_id="c0"))
    (over,) = pool(map(str, folders)).over_chips
    assert over.time_s == pytest.approx((1.0 * 1.1 * 1.2) ** (1 / 3), rel=0.01)
    assert over.time_s_hi is not None
    assert over.time_s_hi / over.time_s - 1 > 0.15


def test_a_pooled_run_is_narrower_than_a_lucky_one_only_by_right(tmp_path: Path):
    series = [[list(np.exp(RNG.normal(0, 0.001, 40)) * factor)] for factor in (1.0, 1.04, 1.08)]
    folders = [run(tmp_path / f"r{n}", {1: own}, run_id=f"r{n}") for n, own in enumerate(series)]
    (found,) = pool(map(str, folders)).rows
    assert found.time_s_lo is not None
    assert found.time_s_hi is not None
    assert found.time_s_hi - found.time_s_lo > 0.15 > 10 * (estimate(series[0][0]).hi - estimate(series[0][0]).lo)


def test_without_samples_rows_are_pooled_by_their_intervals(tmp_path: Path):
    found = of_rows(tmp_path, *(row(seconds=1.0 + n / 100, run_id=f"r{n}") for n in range(3)))
    (one,) = found.rows
    assert one.time_s == pytest.approx((1.0 * 1.01 * 1.02) ** (1 / 3))
    assert one.time_s_hi == pytest.approx(one.time_s * np.exp(4.303 * 0.0099 / np.sqrt(3)), rel=1e-3)
    assert (one.processes, one.samples, one.samples_digest, found.members[0].raw) == (9, 900, None, False)


def test_rates_follow_the_pooled_time(tmp_path: Path):
    rates = {"flops": 2e12, "tokens": 8.0, "bytes": 1e9, "peak_tflops": 10.0}
    rows = [
        row(seconds=s, run_id=f"r{n}", tflops=2 / s, tokens_per_s=8 / s, gbps=1 / s, mfu=0.2 / s, **rates)
        for n, s in enumerate((1.0, 1.2))
    ]
    (found,) = of_rows(tmp_path, *rows).rows
    assert found.time_s is not None
    assert (found.tflops, found.mfu) == (pytest.approx(2 / found.time_s), pytest.approx(0.2 / found.time_s))
    write_pool(of_rows(tmp_path, *rows), tmp_path / "out")
    assert validate.check(tmp_path / "out" / "results.csv") == []


def test_energy_is_pooled_with_its_interval(tmp_path: Path):
    energy = {"energy_evidence": "measured", "power_source": "counter", "power_scope": "gpu_board"}
    rows = [
        row(run_id=f"r{n}", energy_j=j, energy_j_lo=j * 0.99, energy_j_hi=j * 1.01, energy_window_s=10.0, **energy)
        for n, j in enumerate((100.0, 101.0, 102.0))
    ]
    (found,) = of_rows(tmp_path, *rows).rows
    assert found.energy_j == pytest.approx(101.0, rel=1e-3)
    assert found.energy_j_hi == pytest.approx(101.0 * np.exp(4.303 * 0.0099 / np.sqrt(3)), rel=1e-3)
    assert found.energy_window_s == 30.0


@pytest.mark.parametrize(
    ("statuses", "status", "error"),
    [
        (["ok", "crashed", "ok"], "crashed", "in 1 of 3 runs (r1 the first): it broke"),
        (["unstable", "ok", "unstable"], "unstable", "in 2 of 3 runs (r0 the first): it broke"),
        (["oom", "crashed", "ok"], "crashed", "in 1 of 3 runs (r1 the first): it broke"),
        (["skipped", "ok", "ok"], "ok", None),
        (["skipped", "skipped", "skipped"], "skipped", "in 3 of 3 runs (r0 the first): it broke"),
    ],
)
def test_the_worst_run_decides(tmp_path: Path, statuses: list[str], status: str, error: str | None):
    found = of_rows(tmp_path, *(row(status=each, run_id=f"r{n}") for n, each in enumerate(statuses)))
    (one,) = found.rows
    assert (one.status, one.error) == (status, error)
    assert (one.time_s is not None) == (status in ("ok", "unstable"))
    assert found.members[0].runs == ("r0", "r1", "r2")
    write_pool(found, tmp_path / "out")
    assert csvfile.read(tmp_path / "out" / "results.csv") == [one]
    assert validate.check(tmp_path / "out" / "results.csv") == []


def test_what_differs_is_left_empty_and_named(tmp_path: Path):
    found = of_rows(tmp_path, row(run_id="r0", git_sha="a", env_id="e"), row(run_id="r1", git_sha="b", env_id="e"))
    assert (found.rows[0].git_sha, found.rows[0].env_id, found.members[0].differ) == (None, "e", ("git_sha",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chip": "y"}, "1.csv:2: chip: found 'y', and 'x' in"),
        ({"torch": "2.12.0"}, "torch: found '2.12.0', and '2.13.0' in"),
        ({"driver": "570"}, "driver: found '570', and nothing in"),
        ({"power_limit_w": 400.0}, "power_limit_w: found 700.0, and 400.0 in"),
        ({"seed": 1}, "seed: found 1, and 0 in"),
        ({"run_id": "r0"}, "run r0 is in"),
        ({"path": "cublas"}, "path: found 'cublas', and nothing in"),
        ({"number": 2, "case": "gemm 1"}, "other work under the name 'gemm 1'"),
        ({"number": 2}, "no two of the runs have a case in common"),
        ({"cache": "cold"}, "no two of the runs have a case in common"),
    ],
)
def test_what_would_lie_is_refused(tmp_path: Path, change: dict[str, Any], message: str):
    number = change.pop("number", 1)
    other = row(number, **{"run_id": "r1", "power_limit_w": 700.0, **change})
    with pytest.raises(InputError) as caught:
        of_rows(tmp_path, row(run_id="r0", power_limit_w=700.0), other)
    assert message in str(caught.value)


def test_power_limits_within_five_percent_are_one(tmp_path: Path):
    found = of_rows(tmp_path, row(run_id="r0", power_limit_w=700.0), row(run_id="r1", power_limit_w=690.0))
    assert found.rows[0].power_limit_w == 690.0


def test_a_case_of_some_runs_is_pooled_of_those(tmp_path: Path):
    first = write(tmp_path, "a.csv", [row(1, run_id="r0"), row(2, run_id="r0")])
    second = write(tmp_path, "b.csv", [row(1, run_id="r1")])
    found = pool([str(first), str(second)])
    assert [one.runs for one in found.members] == [("r0", "r1"), ("r0",)]
    assert len({one.run_id for one in found.rows}) == 1


def test_one_run_is_nothing_to_pool(tmp_path: Path):
    with pytest.raises(InputError, match="found 1 run, expected at least two"):
        pool(runs(tmp_path, 1))


def test_a_changed_run_is_refused(tmp_path: Path):
    folders = runs(tmp_path, 2)
    samples = Path(folders[1]) / "samples.jsonl"
    samples.write_text(samples.read_text().replace('"blocks": [0', '"blocks": [9', 1))
    with pytest.raises(InputError, match=r"r1/results.csv:2: samples_digest: .* one was changed"):
        pool(folders)


def test_a_folder_with_results_is_not_overwritten(tmp_path: Path):
    found = pool(runs(tmp_path, 2))
    write_pool(found, tmp_path / "out")
    with pytest.raises(InputError, match=r"found results\.csv in it, expected a new or empty folder"):
        write_pool(found, tmp_path / "out")
