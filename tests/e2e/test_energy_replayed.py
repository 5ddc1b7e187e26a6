"""``perwatt run`` with energy, on devices that play back a recording through the real sensors and a fake driver."""

from __future__ import annotations

import csv
import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Perwatt
from fakes.replay import replay
from perwatt.results import csvfile, validate

FAKES = Path(__file__).parents[1] / "fakes"
SUITE = """
suite: replayed
measure: {target_ci: 0.1, min_samples: 10, max_time_s: 1, cache: hot}
cases:
  - {workload: gemm, params: {m: 64, n: 64, k: 64}}
  - {workload: lm_head_loss, params: {tokens: 32, hidden: 64, vocab: 128}}
"""

LOSS = "".join(line for line in SUITE.splitlines(keepends=True) if "gemm" not in line)


@pytest.fixture
def run(perwatt: Perwatt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the suite on a replayed device; gives the process and the rows."""
    monkeypatch.syspath_prepend(str(FAKES.parent))
    monkeypatch.syspath_prepend(str(FAKES / "replay"))

    def go(device: str, *options: str, fault: str = "", out: str = "out", suite: str = SUITE, **more: str) -> Any:
        (tmp_path / "suite.yaml").write_text(suite)
        words = ("run", "suite.yaml", "--device", device, "--out", out, *options)
        origin, state = str(time.monotonic()), str(tmp_path / f"{out}.busy")
        settings = {
            "REPLAY_FAULT": fault,
            "REPLAY_STATE": state,
            "REPLAY_ORIGIN": origin,
            "OMP_NUM_THREADS": "1",
            **more,
        }
        done = perwatt(*words, **settings)
        results = tmp_path / out / "results.csv"
        assert validate.check(results) == []
        return done, csvfile.read(results)

    return go


def recording(name: str) -> dict[str, Any]:
    return yaml.safe_load((FAKES / "replay" / "recordings" / f"{name}.yaml").read_text())  # type: ignore[no-any-return]


def test_an_h100_by_its_counter(run: Any, tmp_path: Path) -> None:
    played = recording("h100")
    done, rows = run("replay-h100")
    assert done.returncode == 0, done.stderr
    assert "energy: up to 2 windows of 11 s by nvml, about" in done.stderr
    assert "energy of 2 rows: measured by nvml, counter (gpu_board)" in done.stdout
    least, most = min(watts for _, watts in played["load"][1:]), max(watts for _, watts in played["load"])
    for row in rows:
        assert (row.energy_evidence, row.power_source, row.power_sensor) == ("measured", "counter", "nvml")
        assert (row.power_scope, row.energy_rel_sys, row.idle_def) == ("gpu_board", 0.05, "no_context")
        assert least <= row.power_w <= most, "the beginning of the load is trimmed off"
        assert row.idle_w == pytest.approx(played["idle"], rel=0.01)
        assert row.energy_time_s == pytest.approx(played["seconds"][row.workload], rel=0.01)
        assert row.energy_j == pytest.approx(row.power_w * row.energy_time_s)
        assert row.energy_j_lo < row.energy_j < row.energy_j_hi < 1.01 * row.energy_j
        assert row.energy_j_net == pytest.approx((row.power_w - row.idle_w) * row.energy_time_s)
        assert 9.0 < row.energy_window_s < 11.5
        assert row.energy_iters == pytest.approx(row.energy_window_s / row.energy_time_s, rel=0.001)
        assert row.tflops_per_w == pytest.approx(row.flops / 1e12 / row.energy_j)
        assert row.tflops_per_w_lo < row.tflops_per_w < row.tflops_per_w_hi
        assert row.power_util_avg_pct == pytest.approx(100 * row.power_w / played["power_limit_w"])
        assert row.power_die_rule == "limit"
    loss = rows[1]
    assert loss.tokens_per_j == pytest.approx(32 / loss.energy_j)
    assert loss.tokens_per_kwh == pytest.approx(3.6e6 * loss.tokens_per_j)
    assert loss.tokens_per_pct_s == pytest.approx(32 / loss.energy_time_s / loss.power_util_avg_pct)
    with (tmp_path / "out" / "power.csv").open() as file:
        parts = Counter((line["part"], line["case"]) for line in csv.DictReader(file))
    assert set(parts) == {("idle start", ""), ("idle end", ""), *(("window", row.case) for row in rows)}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("lost", "lost inside the window"),
        ("denied", "lost inside the window"),
        ("zero", "went back from"),
        ("backwards", "went back from"),
    ],
)
def test_a_sensor_that_fails_in_the_window_costs_only_the_energy(run: Any, fault: str, reason: str) -> None:
    done, (first,) = run("replay-h100", fault=fault, suite=LOSS)
    assert done.returncode == 0, done.stderr
    assert first.status == "ok"
    assert first.time_s == pytest.approx(0.004, rel=0.05)
    assert (first.energy_j, first.power_w, first.energy_evidence, first.power_source) == (None, None, "none", "none")
    assert reason in first.energy_note
    assert f"no energy of 1 row: {first.energy_note}" in " ".join(done.stdout.split())


def test_watts_that_are_declared(run: Any, tmp_path: Path) -> None:
    _, rows = run("replay-h100", "--power-w", "650")
    for row in rows:
        assert (row.energy_evidence, row.power_source, row.power_scope) == ("modeled", "declared", "package")
        assert row.energy_j == pytest.approx(650 * row.time_s)
        assert row.energy_j_lo == pytest.approx(650 * row.time_s_lo)
        assert row.energy_window_s is None
    assert not (tmp_path / "out" / "power.csv").exists()
    done, again = run("replay-h100", "--resume")
    assert (done.returncode, again) == (2, rows)
    assert "--power-w: cannot resume: found none, expected one as the run had (650.0), or --energy off" in done.stderr


def test_watts_of_the_sheet(run: Any) -> None:
    _, rows = run("replay-h100", "--sensor", "tdp", suite=LOSS)
    assert {(row.energy_evidence, row.power_source) for row in rows} == {("modeled", "tdp")}
    assert rows[0].energy_j == pytest.approx(700 * rows[0].time_s)
    assert "an upper bound" in rows[0].energy_note


def metered(path: Path, state: Path, ahead_s: float, rest_w: float) -> None:
    """The CSV of a meter that sees the recorded power and the rest of a node, by a clock of its own."""
    played = recording("h100")
    spans = [(start, end - replay.LATE_S) for start, end in replay.Busy(state).spans()]
    times = range(round(spans[0][0]) - 30, round(spans[-1][1]) + 30)
    loaded = {at: any(start <= at <= end for start, end in spans) for at in times}
    watts = {True: played["load"][-1][1] + rest_w, False: played["idle"] + rest_w}
    lines = [f"{replay.BEGUN + at + ahead_s:.3f},{watts[loaded[at]]:.1f}" for at in times]
    path.write_text("unix_s,watts\n" + "\n".join(lines) + "\n")


def test_an_outside_meter_that_is_read_when_its_file_is_there(run: Any, tmp_path: Path) -> None:
    options = ("--power-trace", "meter.csv", "--meter-class", "0.5", "--power-scope", "node")
    done, rows = run("replay-h100", *options)
    assert "meter.csv is not there yet; when it is, run the same again with --resume" in done.stderr
    assert {row.energy_j for row in rows} == {None}
    metered(tmp_path / "meter.csv", tmp_path / "out.busy", ahead_s=17.3, rest_w=200.0)
    done, rows = run("replay-h100", *options, "--resume")
    assert done.returncode == 0, done.stderr
    offset = re.search(r"the meter's clock is ([+-][\d.]+) s from ours, ±([\d.]+) s", done.stderr)
    assert offset
    assert abs(float(offset[1]) - 17.3) <= float(offset[2]) < 1.5
    for row in rows:
        assert (row.energy_evidence, row.power_source, row.power_scope) == ("measured", "metered", "node")
        assert row.power_w == pytest.approx(872, rel=0.02)
        assert (row.power_sensor, row.energy_rel_sys, row.idle_w) == ("meter", 0.005, None)
        assert row.energy_j_lo < row.power_w * row.energy_time_s < row.energy_j_hi


def test_a_meter_beside_the_chips_own_sensor(run: Any, tmp_path: Path) -> None:
    options = ("--sensor", "nvml", "--power-trace", "meter.csv", "--meter-class", "0.5", "--power-scope", "node")
    _, (before,) = run("replay-h100", *options, suite=LOSS)
    assert (before.power_source, before.power_sensor) == ("counter", "nvml")
    metered(tmp_path / "meter.csv", tmp_path / "out.busy", ahead_s=0.0, rest_w=200.0)
    done, (row,) = run("replay-h100", *options, "--meter-offset", "0", "--resume", suite=LOSS)
    assert done.returncode == 0, done.stderr
    assert (row.power_source, row.power_sensor, row.power_scope) == ("metered", "meter", "node")
    assert row.power_w == pytest.approx(before.power_w + 200.0, rel=0.02)
    assert row.host_energy_j == before.host_energy_j, "the card's own joules are not the host's"
    assert row.power_util_avg_pct is None, "a node is not under the card's limit"


def test_a_meter_of_another_time_is_refused_and_costs_no_row(run: Any, tmp_path: Path) -> None:
    times = "\n".join(f"{1_700_000_000 + second},500" for second in range(60))
    (tmp_path / "meter.csv").write_text(f"unix_s,watts\n{times}\n")
    done, rows = run("replay-h100", "--power-trace", "meter.csv", "--meter-class", "1", suite=LOSS)
    assert done.returncode == 2
    assert "all rows are kept without it; correct the trace and run the same with --resume" in done.stderr
    assert "2023-11-14" in done.stderr, "the meter's time"
    assert "2026-09-2" in done.stderr, "the run's"
    assert [row.status for row in rows] == ["ok"]


def test_a_trainium2_by_its_dies(run: Any) -> None:
    played = recording("trn2")
    done, rows = run("replay-trn2", REPLAY_SPEED="40")
    assert "relative_assumed (package); 500 W a chip stand for 100 %, by assumption" in " ".join(done.stdout.split())
    share = sum(played["dies"]) / 2
    for row in rows:
        assert (row.power_sensor, row.power_source, row.energy_evidence) == (
            "neuron-live", "relative_assumed", "modeled",
        )  # fmt: skip
        assert (row.power_die_rule, row.power_assumption) == ("mean", "trainium2-500w")
        assert row.power_util_avg_pct == pytest.approx(played["load"][-1][1] * share, rel=0.02)
        assert row.power_w == pytest.approx(5.0 * row.power_util_avg_pct)
        done_s = row.flops / 1e12 / row.energy_time_s
        assert row.tflops_per_pct == pytest.approx(done_s / row.power_util_avg_pct)
        assert row.tflops_per_pct_lo < row.tflops_per_pct < row.tflops_per_pct_hi
        assert row.idle_w is None


def test_a_trainium2_by_whole_minutes(run: Any) -> None:
    played = recording("trn2")
    _, (row,) = run(
        "replay-trn2", "--sensor", "neuron-minutes", "--power-assumption", "none", suite=LOSS, REPLAY_SPEED="40"
    )
    assert (row.power_source, row.energy_evidence, row.energy_j, row.power_w) == ("none", "none", None, None)
    assert (row.power_buckets, row.power_die_rule, row.energy_window_s) == (2, "larger", pytest.approx(120.0))
    assert row.power_util_avg_pct == pytest.approx(played["load"][-1][1], rel=0.02)
    assert row.power_util_min_pct <= row.power_util_avg_pct <= row.power_util_max_pct
    assert row.tokens_per_pct_s == pytest.approx(32 / row.energy_time_s / row.power_util_avg_pct)


def test_an_h100_and_a_trainium2_compared(run: Any, perwatt: Perwatt) -> None:
    _, (gpu,) = run("replay-h100", out="h100", suite=LOSS)
    _, (trn,) = run("replay-trn2", out="trn2", suite=LOSS, REPLAY_SPEED="40")
    done = perwatt("compare", "h100", "trn2", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    pairs = {pair["metric"]: pair for pair in found["pairs"] if pair["track"] == "best"}
    assert "tokens_per_j" not in pairs, "what is modeled enters no measured ratio"
    assert not {name for name in pairs if pairs[name]["evidence"] != "measured"}
    percent = pairs["tokens_per_pct_s"]
    assert percent["symbol"] == "P_max(h100-sxm)/P_max(trainium2)"
    assert percent["break_even"] == pytest.approx(trn.tokens_per_pct_s / gpu.tokens_per_pct_s)
    assert f"that is {700 * percent['break_even']:.3g} W of trainium2" in percent["reason"]
    shown = perwatt("compare", "h100", "trn2").stdout
    assert "what is modeled enters no measured ratio" in shown
    assert re.search(r"tokens_per_j of [^(]* \(h100 [\d.]+ measured, trn2 [\d.]+ modeled\)", shown)


@pytest.mark.parametrize(
    ("fault", "sensor", "reason"),
    [
        ("gone", "neuron-live", "No such file"),
        ("garbage", "neuron-live", "die,percent"),
        ("no_data", "neuron-minutes", "no data"),
    ],
)
def test_percentages_that_fail_in_the_window(run: Any, fault: str, sensor: str, reason: str) -> None:
    _, (row,) = run("replay-trn2", "--sensor", sensor, fault=fault, suite=LOSS, REPLAY_SPEED="40")
    assert row.status == "ok"
    assert (row.energy_j, row.tflops_per_pct, row.power_util_avg_pct) == (None, None, None)
    assert reason in row.energy_note


def test_headlines_only(run: Any) -> None:
    _, rows = run("replay-h100", "--energy", "headline", suite=SUITE + """
  - {workload: gemm, params: {m: 64, n: 64, k: 64}, sweep: {k: [8, 16, 24, 32, 40, 48]}}
""".replace(", k: 64}, sweep", "}, sweep"))  # fmt: skip
    assert sum(row.energy_j is not None for row in rows) == 6
    left = [row for row in rows if row.energy_j is None]
    assert {row.energy_note for row in left} == {"no window of its own: only headline rows get one (--energy all)"}
    assert {row.flops for row in left} == {min(row.flops for row in rows), sorted(row.flops for row in rows)[1]}


def test_a_run_that_is_resumed_does_not_measure_windows_again(run: Any, tmp_path: Path) -> None:
    _, rows = run("replay-h100", suite=LOSS)
    journal = (tmp_path / "out" / "journal.jsonl").read_text()
    done, again = run("replay-h100", "--resume", suite=LOSS)
    assert done.returncode == 0, done.stderr
    assert again == rows
    later = (tmp_path / "out" / "journal.jsonl").read_text().removeprefix(journal)
    assert '"event":"window"' not in later


def test_energy_that_is_off(run: Any) -> None:
    _, rows = run("replay-h100", "--energy", "off", suite=LOSS)
    assert {row.energy_note for row in rows} == {"energy is off"}
