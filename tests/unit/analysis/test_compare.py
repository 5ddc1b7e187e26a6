"""What is compared with what, by which figures, with which verdicts, and what is left out and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import perwatt
from perwatt.analysis.levels import Allowance
from perwatt.analysis.result import Comparison, Options, Pair
from perwatt.errors import InputError
from perwatt.results.schema import Row
from perwatt.timing import statistics
from support.runs import compared, run_folder, timed
from support.valid_rows import WORK, make

Compare = Callable[..., Comparison]
MIX = "--mix-power compares them all the same"
EXACT = Allowance(process=0.0, chip=0.0)
STEP = {**WORK, "workload": "train_step", "pass": "step"}
GPU = {
    "chip": "H100",
    "chip_id": "gpu",
    "placement": "device",
    "devices_per_chip": 1,
    "chips": 1.0,
    "mode": "replicate",
}
TRN = {
    "chip": "Trainium2", "chip_id": "trn", "placement": "chip", "devices_used": 4, "devices_per_chip": 4, "chips": 1.0,
    "mode": "shard", "world_size": 4,
}  # fmt: skip


def failed(status: str) -> Row:
    """A row of that name that is not ok."""
    return make(status=status, error="why", impl=status)


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """Compare sides, each of which is a list of rows; they are called a, b, c."""

    return partial(compared, tmp_path)


def only(found: Comparison, metric: str = "time_s", track: str = "best") -> Pair:
    pairs = [pair for pair in found.pairs if (pair.metric, pair.track) == (metric, track)]
    assert len(pairs) == 1, pairs
    return pairs[0]


def test_a_pair_in_full(compare: Compare):
    found = compare([timed(2e-3)], [timed(1e-3, impl="triton", impl_class="kernel")])
    pair = only(found)
    assert (pair.ratio, pair.verdict, pair.match_key) == (pytest.approx(2.0), "faster", timed(1.0).match_key)
    assert (pair.baseline.column, pair.candidate.column) == ("a", "b")
    assert (pair.baseline.value, pair.candidate.value) == (pytest.approx(2e-3), pytest.approx(1e-3))
    assert (pair.baseline.impl, pair.candidate.impl, pair.candidate.precision) == ("torch", "triton", "fp32")
    assert (pair.evidence, pair.placement, pair.candidate.runs, pair.candidate.chips) == ("measured", "device", 1, 1)
    # the row's own intervals, and 1 % for each side of one process, in quadrature; the same chip, so nothing more
    half = math.sqrt(2 * (0.001**2 + 0.01**2))
    assert math.log(pair.hi / pair.ratio) == pytest.approx(half, rel=2e-3)
    assert pair.reason == "allows 1 % between processes"
    assert not [pair for pair in found.pairs if pair.track == "like"], "an eager path is not like a kernel"
    assert (found.refused, found.unmatched, found.excluded, found.skipped) == ((), (), (), ())


def test_rates_are_the_other_way_round(compare: Compare):
    found = compare([timed(2e-3)], [timed(1e-3)])
    rate, time = only(found, "tflops"), only(found)
    assert (rate.ratio, rate.lo, rate.hi) == pytest.approx((time.ratio, time.lo, time.hi))
    assert rate.candidate.value > rate.baseline.value


@pytest.mark.parametrize(
    ("candidate", "options", "verdict"),
    [
        (1.0, {}, "same"),
        (1.0, {"region": 0.01}, "unclear"),
        (0.95, {}, "faster"),
        (0.95, {"region": 0.08}, "same"),
        (1.06, {}, "slower"),
        (0.97, {}, "unclear"),
        (0.97, {"allowance": EXACT}, "faster"),
    ],
)
def test_verdicts(compare: Compare, candidate: float, options: dict[str, Any], verdict: str):
    assert only(compare([timed(1.0)], [timed(candidate)], **options)).verdict == verdict


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([timed(0.978)], "3 runs a side would settle it"),
        ([timed(0.97, chip_id="c2")], "3 chips a side would settle it"),
        ([timed(0.97, rel=0.05)], "times the samples or runs would settle it"),
        ([timed(0.978, rel=0.05)], "more samples or runs and 3 runs a side would settle it"),
        ([timed(0.978, time_s_lo=0.0)], "an end of the interval is open: more samples would close it"),
        ([timed(0.98, processes=5)], "the ratio lies at the border of 1 ± 2 %"),
        ([timed(0.97, time_s_lo=None, time_s_hi=None)], "no interval without 3 runs a side"),
    ],
)
def test_what_would_settle_it(compare: Compare, rows: list[Row], what: str):
    pair = only(compare([timed(1.0, processes=5)], rows))
    assert pair.verdict == "unclear"
    assert what in pair.reason


def test_chips_that_differ_are_allowed_for(compare: Compare):
    near = only(compare([timed(1.0)], [timed(1.0)]))
    far = only(compare([timed(1.0)], [timed(1.0, chip_id="c2")]))
    assert "between chips" not in near.reason
    assert "allows 5 % between chips" in far.reason
    assert math.log(far.hi) == pytest.approx(math.hypot(math.log(near.hi), 0.05 * math.sqrt(2)), rel=1e-6)


def test_runs_make_the_allowance_unnecessary(compare: Compare):
    times = (1.0, 1.001, 0.999, 1.002)
    sides = [[timed(time, run_id=f"{side}{n}") for n, time in enumerate(times)] for side in "ab"]
    pair = only(compare(*sides))
    assert (pair.verdict, pair.reason, pair.baseline.runs) == ("same", "", 4)
    # Student's t of 3 degrees of freedom, 3.182, times the standard error of the mean of the logarithms, twice
    error = float(np.std(np.log(times), ddof=1)) / 2
    assert math.log(pair.hi / pair.ratio) == pytest.approx(3.1824 * error * math.sqrt(2), rel=1e-3)


def test_chips_count_equally_however_many_runs_each_had(compare: Compare):
    busy = [timed(1.0, run_id=f"x{n}") for n in range(6)]
    found = compare([*busy, timed(1.1, chip_id="c2", run_id="y")], [timed(1.0)])
    pair = only(found)
    assert pair.baseline.value == pytest.approx(math.sqrt(1.1))
    assert (pair.baseline.chips, pair.baseline.runs) == (2, 7)
    assert pair.lo < pair.ratio / math.sqrt(1.1) < pair.ratio * math.sqrt(1.1) < pair.hi, "either chip may be the rule"


def test_the_noise_floor_of_restarts_widens_the_region(compare: Compare):
    times = (1.0, 1.1, 0.9, 1.05, 0.95)
    wild = [timed(time, run_id=f"r-{n}") for n, time in enumerate(times)]
    assert only(compare(wild, wild[:4])).region > 0.1
    assert only(compare(wild[:4], wild[:4])).region == 0.02, "four restarts are too few to learn from"


def test_the_noise_floor_of_aa_needs_restarts_too(compare: Compare):
    assert only(compare([timed(1.0, noise_floor=0.1, processes=5)], [timed(1.0)])).region == pytest.approx(
        math.expm1(0.1), rel=0.1
    )
    assert only(compare([timed(1.0, noise_floor=0.1, processes=1)], [timed(1.0)])).region == 0.02


# --- what meets what -------------------------------------------------------------------------------------------------

OTHER = {**WORK, "params": {"m": 9, "n": 9, "k": 9}}
IN_BF16 = {**WORK, "precision": {"name": "bf16"}}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (timed(1.0, OTHER), "a has no such work"),
        (timed(1.0, cache="cold"), "a has this work by another protocol (cache mode or method)"),
        (timed(1.0, IN_BF16), "a has this task in fp32 only; --across-formats compares training steps of both"),
        (timed(1.0, placement="node", devices_used=8), "a has this work at device only"),
    ],
)
def test_what_does_not_match_says_why(compare: Compare, row: Row, reason: str):
    found = compare([timed(1.0)], [row])
    assert found.pairs == ()
    left = {one.column: one for one in found.unmatched}
    assert (left["b"].reason, left["b"].line, left["b"].match_key) == (reason, 2, row.match_key)
    assert left["a"].reason.startswith("b has ")


def test_rows_that_are_not_ok_enter_nothing(compare: Compare):
    rows = [
        timed(1.0),
        timed(1.0, status="unstable", error="why", impl="unstable"),
        failed("inaccurate"),
        failed("oom"),
    ]
    found = compare([timed(1.0)], rows)
    assert {pair.candidate.impl for pair in found.pairs} == {"torch"}
    assert [(one.impl, one.reason, one.line) for one in found.excluded] == [
        ("unstable", "unstable: why", 3), ("inaccurate", "inaccurate: why", 4), ("oom", "oom: why", 5),
    ]  # fmt: skip


def test_a_side_without_a_good_row_matches_nothing(compare: Compare):
    found = compare([timed(1.0)], [failed("oom")])
    assert found.pairs == ()
    assert found.notes == ("b: none of its 1 rows is ok",)
    assert [one.column for one in found.unmatched] == ["a"]


def test_a_gpu_is_a_chip_of_one_device(compare: Compare):
    rate = 48.0 / 1e-3 / 1e12
    found = compare([timed(1e-3, **GPU, tflops_per_chip=rate)], [timed(1e-3, **TRN, tflops_per_chip=rate)])
    pair = only(found, "tflops_per_chip")
    assert (pair.placement, pair.baseline.placement, pair.candidate.placement) == ("chip", "device", "chip")


def test_one_core_is_no_chip(compare: Compare):
    core = {**TRN, "placement": "device", "devices_used": 1, "chips": None}
    found = compare([timed(1e-3, **GPU)], [timed(1e-3, **core)])
    assert {pair.placement for pair in found.pairs} == {"device"}
    found = compare([timed(1e-3, **{**GPU, "placement": "chip"})], [timed(1e-3, **core)])
    assert found.pairs == ()
    assert found.unmatched[1].reason == "a has this work at chip only"


def test_copies_and_shards_of_the_same_work_do_not_meet(compare: Compare):
    copies = {**TRN, "mode": "replicate", "replicas": 4}
    found = compare([timed(1e-3, **TRN)], [timed(1e-3, **copies)])
    assert found.pairs == ()
    assert found.unmatched[0].reason == "b has this work at chip replicate only"


def test_only_rates_per_chip_cross_numbers_of_copies(compare: Compare):
    copies = {**TRN, "mode": "replicate", "replicas": 4, "tflops_per_chip": 4 * 48.0 / 1e-3 / 1e12}
    found = compare([timed(1e-3, **GPU, tflops_per_chip=48.0 / 1e-3 / 1e12)], [timed(1e-3, **copies)])
    assert {pair.metric for pair in found.pairs} == {"tflops_per_chip"}
    assert only(found, "tflops_per_chip").ratio == pytest.approx(4.0)
    refused = {one.metric: one.reason for one in found.refused}
    assert refused["time_s"] == "replicas differ (1 and 4): only rates per chip may be compared"
    assert refused["tflops"] == refused["time_s"]


def test_other_power_limits_are_other_chips(compare: Compare):
    found = compare(
        [timed(1.0, power_limit_w=700.0)], [timed(1.2, power_limit_w=500.0), timed(1.0, power_limit_w=690.0, impl="b")]
    )
    assert [column.label for column in found.columns] == ["a", "b: A chip at 500 W", "b: A chip at 690 W"]
    assert found.columns[0].chip == "A chip at 690 W"
    pair = next(pair for pair in found.pairs if pair.candidate.column == "b: A chip at 500 W")
    assert "allows 5 % between chips" in pair.reason


def test_several_chips_of_a_side_are_columns(compare: Compare):
    on_y = timed(1.1, chip="Y", run_id="y")
    found = compare([timed(1.0, chip="X"), on_y], [timed(0.5, chip="X")], baseline="Y")
    assert [column.label for column in found.columns] == ["a: Y", "a: X", "b"]
    assert found.baseline == "a: Y"
    assert {pair.candidate.column for pair in found.pairs} == {"a: X", "b"}


def test_one_side_of_several_chips_is_enough(compare: Compare):
    assert compare([timed(1.0, chip="X"), timed(1.1, chip="Y", run_id="y")]).pairs
    with pytest.raises(InputError, match="found one side with 1 kind of chip, expected two"):
        compare([timed(1.0)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "aa"}, "baseline: found 'aa', expected one of a, b (did you mean 'a'?)"),
        ({"metrics": ("tflop",)}, "metric: found 'tflop', expected one of "),
        ({"track": "worst"}, "track: found 'worst', expected one of all, best, like"),
    ],
)
def test_options_that_name_nothing(compare: Compare, options: dict[str, Any], message: str):
    with pytest.raises(InputError) as found:
        compare([timed(1.0)], [timed(1.0)], **options)
    assert str(found.value).startswith(message)


def test_formats_meet_in_training_steps_that_passed_the_gate(compare: Compare):
    in_fp8 = {**STEP, "precision": {"name": "fp8_tensor"}}
    steps = timed(1.0, STEP, cache=None), timed(0.5, in_fp8, cache=None)
    found = compare([steps[0], timed(1.0, impl="product")], [steps[1]], across_formats=True)
    pair = only(found)
    assert (pair.baseline.precision, pair.candidate.precision) == ("fp32", "fp8_tensor")
    assert (pair.match_key, pair.ratio) == (steps[0].task_key, pytest.approx(2.0))
    assert [one.reason for one in found.excluded] == [
        "passed no training gate, which rows of different formats have to"
    ]
    ungated = compare([steps[0]], [timed(0.5, in_fp8, cache=None, rel_err=None)], across_formats=True)
    assert ungated.pairs == ()


def test_every_format_meets_every_other(compare: Compare):
    in_fp8 = {**STEP, "precision": {"name": "fp8_tensor"}}
    both = [timed(1.0, STEP, cache=None), timed(0.5, in_fp8, cache=None)]
    found = compare(both, both, across_formats=True, metrics=("time_s",), track="best")
    assert len(found.pairs) == 4


# --- tracks ----------------------------------------------------------------------------------------------------------


def test_like_meets_like_and_best_the_best(compare: Compare):
    baseline = [timed(1.0), timed(0.8, impl="torch.compile", impl_class="graph")]
    candidate = [timed(0.9), timed(0.5, impl="nki", impl_class="kernel"), timed(0.7, impl="lazy", impl_class="graph")]
    found = compare(baseline, candidate, metrics=("time_s",))
    like = {(pair.baseline.impl, pair.candidate.impl) for pair in found.pairs if pair.track == "like"}
    assert like == {("torch", "torch"), ("torch.compile", "lazy")}
    best = only(found)
    assert (best.baseline.impl, best.candidate.impl, best.ratio) == ("torch.compile", "nki", pytest.approx(0.8 / 0.5))
    assert "the best of 3 was chosen by the samples that it is judged by" in best.reason


def test_layouts_are_implementations_too(compare: Compare):
    found = compare(
        [timed(1.0, micro_batch=1), timed(0.5, micro_batch=2)], [timed(0.5, micro_batch=2)], metrics=("time_s",)
    )
    assert only(found).baseline.impl == "torch micro_batch 2"
    assert only(found, track="like").ratio == pytest.approx(1.0)


def noise(seed: int, median: float = 1.0, count: int = 60) -> list[float]:
    return (median * np.exp(np.random.default_rng(seed).normal(0.0, 0.01, count))).tolist()


def test_raw_samples_are_used_where_their_digest_fits(tmp_path: Path):
    a = run_folder(tmp_path / "a", {"torch": [noise(1), noise(2), noise(3)]})
    b = run_folder(tmp_path / "b", {"torch": [noise(4), noise(5), noise(6)]})
    pair = only(perwatt.compare(a, b))
    assert (pair.baseline.spread, pair.baseline.runs, pair.verdict) == ("samples", 3, "same")
    medians = [np.median(noise(seed)) for seed in (1, 2, 3)]
    assert pair.baseline.value == pytest.approx(statistics.pooled([noise(1), noise(2), noise(3)]).median)
    assert pair.hi / pair.lo > max(medians) / min(medians)


@pytest.mark.parametrize("change", [("0.9", "0.8"), ('"process": 0', '"process": 7'), ("{", "[")])
def test_samples_of_another_row_are_not(tmp_path: Path, change: tuple[str, str]):
    a = run_folder(tmp_path / "a", {"torch": [noise(1)]})
    run_folder(tmp_path / "b", {"torch": [noise(2)]})
    path = tmp_path / "b" / "samples.jsonl"
    path.write_text(path.read_text().replace(*change))
    found = perwatt.compare(a, perwatt.load(tmp_path / "b"))
    pair = only(found)
    assert (pair.baseline.spread, pair.candidate.spread) == ("samples", "interval")
    assert [note for note in found.notes if "the interval columns are used" in note]


def test_the_best_is_chosen_on_one_half_and_judged_by_the_other(tmp_path: Path):
    """Of impls that are all the same, the luckiest is no faster on samples that had no part in the choice."""
    halves = []
    for trial in range(30):
        equal = {f"impl{n}": [noise(1000 * trial + n, count=20)] for n in range(8)}
        side = run_folder(tmp_path / f"b{trial}", equal)
        base = run_folder(tmp_path / f"a{trial}", {"impl0": [noise(10**6 + trial, count=400)]})
        pair = only(perwatt.compare(base, side, options=Options(track="best", metrics=("time_s",))))
        assert pair.candidate.spread == "samples"
        assert "chosen by the samples" not in pair.reason
        halves.append(math.log(pair.ratio))
    # 10 samples of 1 %: the median errs by 0.4 %, the luckiest of eight by 0.57 % more
    assert abs(np.mean(halves)) < 0.002


# --- energy, percent, cost -------------------------------------------------------------------------------------------


def powered(time_s: float = 1.0, energy_j: float = 100.0, **changes: Any) -> Row:
    cells = {
        "energy_j": energy_j, "energy_j_lo": energy_j * 0.999, "energy_j_hi": energy_j * 1.001, "energy_rel_sys": 0.05,
        "energy_evidence": "measured", "power_source": "counter", "power_scope": "gpu_board", **changes,
    }  # fmt: skip
    return timed(time_s, **cells)


def test_gain_cancels_on_the_same_card_only(compare: Compare):
    same = only(compare([powered()], [powered(energy_j=80.0)]), "energy_j")
    other = only(compare([powered()], [powered(energy_j=80.0, chip_id="c2")], allowance=EXACT), "energy_j")
    assert (same.verdict, same.ratio) == ("faster", pytest.approx(1.25))
    assert "power sensors" not in same.reason
    assert math.log(other.hi / other.ratio) == pytest.approx(math.hypot(0.05, 0.05), rel=1e-2)
    assert "allows 7.1 % for power sensors" in other.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"power_source": "metered"},
            "power sources differ (counter and metered); --mix-power compares them all the same",
        ),
        ({"power_scope": "node"}, "power scopes differ (gpu_board and node); --mix-power compares them all the same"),
        (
            {"power_source": "tdp", "energy_evidence": "modeled"},
            "energy evidence differs (measured and modeled): what is modeled enters no measured ratio",
        ),
    ],
)
def test_energy_of_different_kinds_is_refused(compare: Compare, changes: dict[str, str], reason: str):
    found = compare([powered()], [powered(**changes)])
    assert [one.reason for one in found.refused if one.metric == "energy_j"] == [reason]
    assert "energy_j" not in {pair.metric for pair in found.pairs}
    assert only(found).verdict == "same", "times are still compared"


def test_mixed_power_is_marked(compare: Compare):
    found = compare([powered()], [powered(power_scope="node")], mix_power=True)
    assert "power_scope differs: gpu_board and node" in only(found, "energy_j").reason


def test_modeled_energy_on_both_sides_is_marked(compare: Compare):
    modeled = {"power_source": "tdp", "energy_evidence": "modeled"}
    assert only(compare([powered(**modeled)], [powered(**modeled)]), "energy_j").evidence == "modeled"


def test_energy_on_one_side_alone_is_listed(compare: Compare):
    found = compare([powered()], [timed(1.0)])
    assert [one.reason for one in found.refused if one.metric == "energy_j"] == ["not known of b"]


def percent(value: float, rel: float = 0.001) -> dict[str, float]:
    """Work per percent-second with its interval."""
    ends = {"tflops_per_pct_lo": value * (1 - rel), "tflops_per_pct_hi": value * (1 + rel)}
    return {"tflops_per_pct": value, **ends}


def test_work_per_percent_second_keeps_its_unknown_maximum(compare: Compare):
    first = timed(1.0, **percent(2.0), chip="Trainium1", power_die_rule="mean")
    second = timed(1.0, **percent(5.0), chip="Trainium2", power_die_rule="mean", chip_id="c2")
    pair = only(compare([first], [second]), "tflops_per_pct")
    assert (pair.ratio, pair.verdict) == (pytest.approx(2.5), "unclear")
    assert pair.symbol == "P_max(Trainium1)/P_max(Trainium2)"
    assert pair.break_even == pytest.approx(2.5)
    assert "the same work per joule where P_max(Trainium2)/P_max(Trainium1) is 2.5" in pair.reason
    later = timed(1.0, **percent(5.0), chip="Trainium1", power_die_rule="mean")
    same = only(compare([first], [later]), "tflops_per_pct")
    assert (same.verdict, same.symbol) == ("faster", None)


def test_dies_that_were_combined_in_different_ways_are_refused(compare: Compare):
    rows = [[timed(1.0, **percent(2.0), power_die_rule=rule)] for rule in ("mean", "larger")]
    found = compare(*rows)
    assert [one.metric for one in found.refused] == ["tflops_per_pct"]
    assert "dies were combined in different ways (mean and larger)" in found.refused[0].reason
    assert found.refused[0].values == pytest.approx((2.0, 2.0))


@pytest.mark.parametrize("gpu_first", [True, False])
def test_a_percentage_of_a_limit_that_is_known_tells_the_watts_of_the_other(compare: Compare, gpu_first: bool):
    gpu = timed(1.0, **percent(2.0), chip="h100-sxm", power_die_rule="limit", power_limit_w=700.0)
    trn = timed(1.0, **percent(1.0), chip="trainium2", power_die_rule="mean", chip_id="c2")
    pair = only(compare(*([[gpu], [trn]] if gpu_first else [[trn], [gpu]])), "tflops_per_pct")
    assert pair.verdict == "unclear"
    assert "with P_max(h100-sxm) = 700 W, its limit, that is 350 W of trainium2" in pair.reason
    assert "one percentage is of a limit in force" in pair.reason


def test_the_larger_dies_percentage_is_an_interval(compare: Compare):
    rows = [timed(1.0, **percent(2.0))], [timed(1.0, **percent(5.0))]
    pair = only(compare(*rows, allowance=EXACT), "tflops_per_pct")
    assert (pair.lo, pair.hi) == pytest.approx((1.25, 5.0), rel=5e-3)


def test_costs(compare: Compare):
    rented = {
        "usd_per_hour": 36.0,
        "purchase": "on_demand",
        "allocation": "whole",
        "tokens": 10.0,
        "tokens_per_s": 10.0,
    }
    pair = only(compare([timed(1.0, **rented)], [timed(1.0, **rented | {"usd_per_hour": 18.0})]), "usd_per_mtok")
    assert (pair.baseline.value, pair.ratio) == (pytest.approx(36 / 3600 / 10 * 1e6), pytest.approx(2.0))
    for name, value in (("purchase", "spot"), ("allocation", "pro_rata")):
        other = timed(1.0, **rented | {name: value, "usd_per_mtok": 500.0})
        found = compare([timed(1.0, **rented)], [other])
        assert [one.metric for one in found.refused] == ["usd_per_mtok"]
        marked = only(compare([timed(1.0, **rented)], [other], mix_purchase=True), "usd_per_mtok")
        assert f"{name} differs" in marked.reason


def test_net_of_idle_never_crosses_kinds_of_chip(compare: Compare):
    idle = {"energy_j_net": 60.0, "idle_def": "context_30s"}
    assert only(
        compare([powered(**idle)], [powered(**{**idle, "energy_j_net": 40.0})]), "energy_j_net"
    ).ratio == pytest.approx(1.5)
    found = compare([powered(**idle)], [powered(**idle, chip="Trainium2")], mix_power=True)
    assert [one.reason for one in found.refused if one.metric == "energy_j_net"] == [
        "net of idle is not compared across kinds of chip (A chip and Trainium2)"
    ]
    assert only(found, "energy_j").ratio == pytest.approx(1.0), "gross is"
    found = compare([powered(**idle)], [powered(energy_j_net=60.0, idle_def="after_60s")])
    assert [one.reason for one in found.refused] == ["definitions of idle differ (context_30s and after_60s)"]


def test_a_model_cut_in_layers_has_no_tokens_per_joule_or_dollar(compare: Compare):
    """Neither by a price nor by name, although its tokens and its energy are known."""
    rented = {"usd_per_hour": 36.0, "purchase": "on_demand", "allocation": "whole"}
    cut = powered(tokens=10.0, tokens_per_s=10.0, per_layer="yes", **rented)
    found = compare([cut], [cut])
    assert {"tokens_per_s", "energy_j"} <= {pair.metric for pair in found.pairs}
    assert not {"tokens_per_j", "usd_per_mtok"} & {pair.metric for pair in found.pairs}
    asked = compare([cut], [cut], metrics=("tokens_per_j", "usd_per_mtok"))
    assert {one.reason for one in asked.refused} == {"a model cut in layers (per_layer) has none"}


def test_a_fraction_of_a_ceiling_is_no_surer_than_the_ceiling(compare: Compare):
    """The product that set it has an interval of 5 %; without it, a fraction would change where its ceiling does."""
    ceiling, rate = 48.0 / 1.0 / 1e12, 48.0 / 2.0 / 1e12
    named = {"ceiling_tflops": ceiling, "ceiling_fraction": rate / ceiling}
    big = {**WORK, "params": {"m": 9, "n": 9, "k": 9}}

    def side(run: str, rel: float) -> list[Row]:
        return [timed(1.0, big, rel=rel, run_id=run), timed(2.0, run_id=run, ceiling_run_id=run, **named)]

    options = {"metrics": ("ceiling_fraction",), "allowance": EXACT, "track": "best"}
    sharp, wide = (only(compare(side("x", rel), side("y", rel), **options), "ceiling_fraction") for rel in (0.0, 0.05))
    assert math.log(sharp.hi) == pytest.approx(0.001 * math.sqrt(2), rel=1e-2)
    assert math.log(wide.hi) == pytest.approx(math.hypot(0.001, 0.05) * math.sqrt(2), rel=5e-2)
    elsewhere = [timed(2.0, run_id="z", ceiling_run_id="not here", **named)]
    gone = only(compare(side("x", 0.0), elsewhere, **options), "ceiling_fraction")
    assert (gone.lo, gone.verdict) == (None, "unclear")


def test_a_price_whose_purchase_nobody_states_is_refused(compare: Compare):
    priced = {"tokens": 10.0, "tokens_per_s": 10.0, "usd_per_mtok": 1000.0}
    found = compare([timed(1.0, **priced)], [timed(1.0, **priced)])
    (refused,) = [one.reason for one in found.refused if one.metric == "usd_per_mtok"]
    assert refused == (
        "kinds of purchase differ (not stated and not stated); --mix-purchase compares them all the same"
    )


def test_evidence_is_marked(compare: Compare):
    found = compare([timed(1.0)], [timed(1.0, time_evidence="modeled", flags="modeled")])
    pair = only(found)
    assert pair.evidence == "measured and modeled"
    assert "evidence differs: measured and modeled" in pair.reason


def test_flags_that_matter_are_named(compare: Compare):
    pair = only(compare([timed(1.0, flags="host_bound")], [timed(1.0)]))
    assert "a is host_bound" in pair.reason


def test_memory_needs_no_allowance(compare: Compare):
    pair = only(compare([timed(1.0, peak_bytes=1e9)], [timed(1.0, peak_bytes=0.9e9, chip_id="c2")]), "peak_bytes")
    assert (pair.ratio, pair.lo, pair.verdict) == (pytest.approx(1 / 0.9), pytest.approx(1 / 0.9), "faster")


def test_compile_times_get_an_interval_from_three_runs(compare: Compare):
    one = only(compare([timed(1.0, compile_cold_s=10.0)], [timed(1.0, compile_cold_s=5.0)]), "compile_cold_s")
    assert (one.lo, one.verdict) == (None, "unclear")
    sides = [
        [timed(1.0, run_id=f"{s}{n}", compile_cold_s=base + n / 10) for n in range(3)]
        for s, base in (("x", 10), ("y", 5))
    ]
    assert only(compare(*sides), "compile_cold_s").verdict == "faster"


def test_geometric_means_by_workload(compare: Compare):
    cases = [{**WORK, "params": {"m": m, "n": 1, "k": 1}} for m in (1, 2, 3)]
    a = [timed(1.0, work, case=f"gemm {n}") for n, work in enumerate(cases)]
    b = [
        timed(time, work, case=f"gemm {n}", chip_id="c2")
        for n, (work, time) in enumerate(zip(cases, (0.5, 0.25, 1.0), strict=True))
    ]
    found = compare(a, b, metrics=("time_s",), track="best")
    (mean,) = found.means
    assert (mean.cases, mean.ratio, mean.verdict) == (3, pytest.approx(2.0), "faster")
    # the chip's part is the same in all cases, so it does not average out
    chip, process = 0.05 * math.sqrt(2), math.sqrt(2 * (0.001**2 + 0.01**2))
    assert math.log(mean.hi / mean.ratio) == pytest.approx(math.hypot(chip, process / math.sqrt(3)), rel=1e-3)


def test_the_same_run_on_both_sides_is_said(compare: Compare):
    found = compare([timed(1.0, run_id="x")], [timed(1.0, run_id="x")])
    assert found.notes == ("a and b both have rows of run x: they are not independent",)


def test_nothing_is_lost(compare: Compare):
    """Every row is in a pair, unmatched or excluded."""
    a = [timed(1.0), timed(1.0, OTHER), failed("oom")]
    b = [timed(1.0), timed(1.0, IN_BF16), failed("timeout")]
    found = compare(a, b)
    named = {(one.column, one.line) for one in (*found.unmatched, *found.excluded)}
    assert named == {("a", 3), ("a", 4), ("b", 3), ("b", 4)}
    assert found.pairs


def test_pins_that_differ_are_named_and_those_that_do_not_are_not(compare: Compare):
    own = "accumulate=fp32 fp8=e4m3fn rounding=nearest"
    other = "accumulate=fp32 auto_cast=none fp8=e4m3 rounding=stochastic"
    found = compare([timed(2e-3, **GPU, numerics=own)], [timed(1e-3, **TRN, numerics=other)])
    assert found.notes == (
        "auto_cast differs: not stated on a, none on b",
        "fp8 differs: e4m3fn on a, e4m3 on b",
        "rounding differs: nearest on a, stochastic on b",
    )
    assert found.pairs


def test_a_side_that_states_no_pins_is_not_accused(compare: Compare):
    found = compare([timed(2e-3)], [timed(1e-3, numerics="rounding=stochastic")])
    assert not any("differs" in note for note in found.notes)
