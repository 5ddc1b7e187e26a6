"""Claims by measured rows: what supports, what contradicts, what decides nothing, and why."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import perwatt
from perwatt import backends
from perwatt.analysis.claims import library
from perwatt.analysis.claims.claim import Cases
from perwatt.analysis.claims.judgement import judged
from perwatt.results import csvfile
from perwatt.results.published import shipped as published
from perwatt.spec import suite
from perwatt.spec.picking import picked
from support.claimed import IN_FP8, IN_MXFP8, OF_A_CHIP, STEP, claim, measured, shipped, step, thrice
from support.runs import timed
from support.valid_rows import WORK


def test_rows_that_support_a_claim(tmp_path: Path):
    found = measured(tmp_path, claim(value=2.0), step("trainium2", 100.0), step("trainium3", 250.0))
    assert (found.verdict, found.missing, found.command) == ("supported", (), None)
    assert found.found
    assert found.found.value == pytest.approx(2.5)
    assert 2.2 < found.found.lo < 2.5 < found.found.hi < 2.8
    assert found.quality == "measured, 1 case, 3 runs and 1 chip a side"
    (line,) = found.basis
    assert line.startswith("step of mine bf16_master, tokens_per_s_per_chip: 250 on trainium3, 100 on trainium2: 2.5 (")


def test_rows_that_contradict_a_claim(tmp_path: Path):
    found = measured(tmp_path, claim(value=4.0), step("trainium2", 100.0), step("trainium3", 190.0))
    assert (found.verdict, found.found.value) == ("contradicted", pytest.approx(1.9))


def test_rows_whose_interval_holds_the_figure_decide_nothing(tmp_path: Path):
    found = measured(tmp_path, claim(value=2.0), step("trainium2", 100.0), step("trainium3", 202.0))
    assert found.verdict == "not_decided"
    assert found.found.lo < 2.0 < found.found.hi
    assert found.missing == (
        f"a narrower interval than {found.found.lo:.2f} to {found.found.hi:.2f}: more runs, and 3 chips on each side",
    )
    assert found.command == "perwatt run headline --only 'matched headline*' --device neuron"


def test_one_run_decides_nothing_however_large_the_ratio(tmp_path: Path):
    found = measured(tmp_path, claim(value=2.0), step("trainium2", 100.0), step("trainium3", 900.0, processes=1))
    assert (found.verdict, found.found.value) == ("not_decided", pytest.approx(9.0))
    assert found.missing == (
        "3 runs or more on each side of step of mine; there are 1 on trainium3 and 3 on trainium2",
    )


def test_three_files_of_one_run_each_are_three_runs(tmp_path: Path):
    rows = [
        step(chip, rate, run_id=f"{chip} {run}", processes=1)
        for chip, rate in (("trainium2", 100.0), ("trainium3", 300.0))
        for run in range(3)
    ]
    assert measured(tmp_path, claim(value=2.0), *rows).verdict == "supported"


def test_rows_in_two_formats_are_not_paired_for_a_claim_of_any_one(tmp_path: Path):
    found = measured(tmp_path, claim(value=2.0), step("trainium2", 100.0, IN_FP8), step("trainium3", 500.0, IN_MXFP8))
    assert (found.verdict, found.found) == ("not_decided", None)
    assert any("in fp8_tensor_ieee only" in line for line in found.basis)


def test_rows_in_two_formats_are_paired_for_a_claim_across_them(tmp_path: Path):
    across = claim(value=2.0, format="sides")
    found = measured(tmp_path, across, step("trainium2", 100.0, IN_FP8), step("trainium3", 300.0, IN_MXFP8))
    assert (found.verdict, found.found.value) == ("supported", pytest.approx(3.0))
    assert "mxfp8 and fp8_tensor_ieee" in found.basis[0]
    ungated = step("trainium3", 300.0, IN_MXFP8, rel_err=None)
    assert measured(tmp_path, across, step("trainium2", 100.0, IN_FP8), ungated).verdict == "not_decided"


def test_rows_in_another_format_than_the_claim_are_left_aside(tmp_path: Path):
    found = measured(tmp_path, claim(format="fp8"), step("trainium2", 100.0), step("trainium3", 500.0))
    assert found.verdict == "not_decided"
    assert "1 of 1 rows of trainium2 are in another format than fp8" in found.basis


def test_a_claim_about_a_system_is_not_judged_from_chips(tmp_path: Path):
    rows = step("trainium2", 100.0), step("trainium3", 500.0)
    found = measured(tmp_path, claim("trn3-training-speed"), *rows)
    assert (found.verdict, found.found, found.command) == ("not_decided", None, None)
    wanted = "1 of 1 rows of trainium2 are not of an UltraServer of 64 chips, as the claim is: one is not judged from"
    assert any(line.startswith(wanted) for line in found.basis)
    assert "perwatt run takes one host, and an UltraServer is more than that" in found.basis
    assert any("placement cluster of 144 chips" in line for line in found.missing)


def test_a_claim_about_a_system_is_judged_from_rows_of_it(tmp_path: Path):
    cluster = {"placement": "cluster", "mode": "shard"}
    small = step("trainium2", 6400.0, chips=64.0, devices_used=256, world_size=256, **cluster)
    large = step("trainium3", 30000.0, chips=144.0, devices_used=576, world_size=576, **cluster)
    found = measured(tmp_path, claim("trn3-training-speed"), small, large)
    assert (found.verdict, found.found.value) == ("supported", pytest.approx(30000 / 6400))
    fewer = step("trainium3", 30000.0, chips=64.0, devices_used=256, world_size=256, **cluster)
    assert measured(tmp_path, claim("trn3-training-speed"), small, fewer).verdict == "not_decided"


def test_a_claim_about_a_chip_is_not_judged_from_clusters(tmp_path: Path):
    cluster = {"placement": "cluster", "chips": 64.0, "devices_used": 256, "world_size": 256}
    rows = step("trainium2", 100.0, **cluster), step("trainium3", 900.0, **cluster)
    assert measured(tmp_path, claim(), *rows).verdict == "not_decided"


def test_one_case_never_contradicts_up_to(tmp_path: Path):
    rows = step("trainium2", 100.0), step("trainium3", 150.0)
    found = measured(tmp_path, claim(quantifier="up_to", value=4.0), *rows)
    assert (found.verdict, found.command) == ("not_decided", None)
    assert found.missing == ("a case that reaches 4 x; one that falls short decides nothing",), "more runs would not"
    near = measured(tmp_path, claim(quantifier="up_to", value=1.5, printed_digits=2), *rows)
    assert near.missing[0].startswith("a narrower interval than 1."), "its interval holds the figure"
    assert measured(tmp_path, claim(quantifier="at_least", value=4.0), *rows).verdict == "contradicted"


def test_what_is_missing_for_up_to_may_support_and_says_so():
    found = judged(shipped()["trn2-training-speed"]).measured
    assert "a row may support a claim of what is reached at best, and none contradicts it" in found.basis
    assert found.command


def test_a_side_in_16_bits_is_missing_in_a_suite_that_has_it():
    found = judged(shipped()["h100-training-speed"]).measured
    assert [line.partition(" of ")[2].partition(" (match")[0] for line in found.missing] == [
        "'headline in 8 bits precision=fp8_tensor' in suite claims", "'matched headline' in suite headline",
    ]  # fmt: skip


def test_one_case_is_enough_to_support_up_to(tmp_path: Path):
    other = {**STEP, "params": {"m": 9, "n": 9, "k": 9}}
    rows = [step("trainium2", 100.0), step("trainium3", 450.0), step("trainium2", 100.0, other),
            step("trainium3", 110.0, other)]  # fmt: skip
    found = measured(tmp_path, claim(quantifier="up_to", value=4.0), *rows)
    assert (found.verdict, len(found.basis)) == ("supported", 2)
    assert measured(tmp_path, claim(quantifier="at_least", value=4.0), *rows).verdict == "not_decided"


# --- energy ----------------------------------------------------------------------------------------------------------


def test_the_headline_at_equal_power_takes_joules_of_a_meter(tmp_path: Path):
    headline = shipped()["trn3-headline-equal-power"]
    baseline = thrice("trainium2", 100.0, IN_FP8, joules=50.0)
    found = measured(tmp_path, headline, *baseline, *thrice("trainium3", 190.0, IN_MXFP8, joules=36.0))
    assert (found.verdict, found.found.value) == ("contradicted", pytest.approx(50 / 36))
    better = measured(tmp_path, headline, *baseline, *thrice("trainium3", 900.0, IN_MXFP8, joules=10.0))
    assert (better.verdict, better.found.value) == ("supported", pytest.approx(5.0))
    once = measured(tmp_path, headline, baseline[0], step("trainium3", 900.0, IN_MXFP8, joules=10.0))
    assert once.verdict == "not_decided"


HEADLINES = ("trn3-headline-equal-power", "trn3-headline-equal-energy")


@pytest.mark.parametrize("name", HEADLINES)
def test_bf16_cannot_show_the_gain_of_the_headline_and_does_not_judge_it(tmp_path: Path, name: str):
    rows = *thrice("trainium2", 100.0, joules=50.0), *thrice("trainium3", 101.0, joules=50.0)
    found = measured(tmp_path, shipped()[name], *rows)
    assert (found.verdict, found.found) == ("not_testable", None)
    assert "3 of 3 rows of trainium3 are in another format than mxfp8" in found.basis


@pytest.mark.parametrize("name", [*HEADLINES, "trn3-ultraserver-per-watt", "trn3-training-speed"])
def test_what_the_headline_lacks_is_in_the_formats_that_the_sheets_judge(name: str):
    found = judged(shipped()[name]).measured
    cases = [line.partition(" of ")[2].partition(" in suite")[0] for line in found.missing]
    assert set(cases) == {f"'headline in 8 bits precision={one}'" for one in ("mxfp8", "fp8_tensor_ieee")}
    assert name not in HEADLINES or "--only 'headline in 8 bits*'" in found.command


def test_rows_without_energy_leave_the_headline_untestable_and_say_which_would_do(tmp_path: Path):
    found = measured(tmp_path, claim("trn3-headline-equal-power"), step("trainium2", 100.0), step("trainium3", 900.0))
    assert (found.verdict, found.found) == ("not_testable", None)
    assert found.basis[0].startswith("watts of trainium3 and trainium2 are published by nobody")
    assert "not known of trainium2 and trainium3" in found.basis
    assert [line.partition(":")[0] for line in found.missing] == ["trainium3", "trainium2"]
    assert all("energy by a meter or counter" in line for line in found.missing)
    assert "--power-trace meter.csv" in found.command


def test_assumed_watts_enter_no_measured_claim(tmp_path: Path):
    modeled = {"energy_evidence": "modeled", "power_source": "relative_assumed", "power_assumption": "trainium3-700w"}
    rows = [
        step("trainium2", 100.0, joules=50.0, **modeled | {"power_assumption": "trainium2-500w"}),
        step("trainium3", 900.0, joules=10.0, **modeled),
    ]
    found = measured(tmp_path, claim("trn3-headline-equal-power"), *rows)
    assert (found.verdict, found.found) == ("not_testable", None)
    same = [replace(row, power_assumption="trainium2-500w") for row in rows]
    found = measured(tmp_path, claim("trn3-headline-equal-power"), *same)
    assert (found.verdict, found.found) == ("not_testable", None)
    assert "tokens_per_j is modeled there, which enters no measured claim" in found.basis


def test_percentages_say_for_which_maxima_the_claim_would_hold(tmp_path: Path):
    percent = {"tokens_per_pct_s_lo": None, "power_die_rule": "each"}
    rows = [
        step("trainium2", 100.0, tokens_per_pct_s=2.0, **percent),
        step("trainium3", 200.0, tokens_per_pct_s=4.0, **percent),
    ]
    found = measured(tmp_path, claim("trn3-headline-equal-power"), *rows)
    assert found.verdict == "not_testable"
    wanted = (
        "step of mine: 2 x P_max(trainium2)/P_max(trainium3); at least 4 x where P_max(trainium3)/P_max(trainium2) is "
        "0.5 or less"
    )
    assert wanted in found.basis


def test_both_halves_of_the_headline_have_to_hold(tmp_path: Path):
    headline = shipped()["trn3-headline-equal-energy"]
    baseline = thrice("trainium2", 100.0, IN_FP8, joules=50.0)
    words = {
        (rate, joules): measured(
            tmp_path, headline, *baseline, *thrice("trainium3", rate, IN_MXFP8, joules=joules)
        ).verdict
        for rate, joules in ((500.0, 40.0), (500.0, 80.0), (150.0, 40.0))
    }
    assert words == {(500.0, 40.0): "supported", (500.0, 80.0): "contradicted", (150.0, 40.0): "contradicted"}
    no_energy = measured(
        tmp_path, headline, step("trainium2", 100.0, IN_FP8), step("trainium3", 500.0, IN_MXFP8)
    )  # fmt: skip
    assert no_energy.verdict == "not_testable"
    assert no_energy.found.value == pytest.approx(5.0), "the speed is known all the same"


# --- other kinds of work ---------------------------------------------------------------------------------------------


def stream(chip: str, time_s: float, **changes: Any):
    work = {**WORK, "workload": "memcpy", "precision": {"name": "bf16"}}
    cells = {
        **OF_A_CHIP, "mode": "replicate", "replicas": 4, "chip": chip, "chip_id": chip, "run_id": chip,
        "case": "memory triad", "flops": None, "tflops": None, "cache": "cold", **changes,
    }  # fmt: skip
    return timed(time_s, work, **cells)


def test_bandwidth_is_judged_by_streams_through_memory_alone(tmp_path: Path):
    bandwidth = claim("trn3-chip-bandwidth", printed_digits=1)
    rows = stream("trainium2", 1.7), stream("trainium3", 1.0)
    assert measured(tmp_path, bandwidth, *rows).verdict == "supported"
    cached = stream("trainium2", 1.7, cache="hot"), stream("trainium3", 1.0, cache="hot")
    found = measured(tmp_path, bandwidth, *cached)
    assert found.verdict == "not_decided"
    assert "1 of 1 rows of trainium3 are from a cache, not from memory" in found.basis
    host = stream("trainium2", 1.7, case="memory h2d"), stream("trainium3", 1.0, case="memory h2d")
    assert "1 of 1 rows of trainium3 are copies from or to the host" in measured(tmp_path, bandwidth, *host).basis


def test_a_part_of_a_chip_does_not_judge_the_chip(tmp_path: Path):
    part = {"placement": "device", "chips": None, "devices_used": 1, "replicas": 1, "world_size": 1}
    rows = stream("trainium2", 1.7, **part), stream("trainium3", 1.0, **part)
    found = measured(tmp_path, claim("trn3-chip-bandwidth", printed_digits=1), *rows)
    assert (found.verdict, found.found) == ("not_decided", None)
    assert any(line.startswith("1 of 1 rows of trainium3 are not of a chip, as the claim is") for line in found.basis)


def test_chips_are_known_by_the_names_that_software_gives_them(tmp_path: Path):
    gpu = {"placement": "device", "devices_used": 1, "devices_per_chip": 1, "world_size": 1, "mode": "replicate"}
    rows = step("NVIDIA A100-SXM4-80GB", 100.0, **gpu), step("NVIDIA H100 80GB HBM3", 300.0, **gpu)
    found = measured(tmp_path, claim("h100-training-speed-bf16", value=2.0, format="bf16"), *rows)
    assert (found.verdict, found.found.value) == ("supported", pytest.approx(3.0))


def product(chip: str, rate: float, size: int):
    work = {**WORK, "params": {"m": size, "n": size, "k": size}, "precision": {"name": "bf16"}}
    cells = {
        **OF_A_CHIP, "mode": "replicate", "replicas": 4, "chip": chip, "chip_id": chip, "run_id": chip,
        "case": f"product {size}", "cache": "cold", "tflops_per_chip": rate,
    }  # fmt: skip
    return timed(48.0 * 4 / rate / 1e12, work, **cells, tflops=rate)


def test_a_peak_is_judged_by_the_fastest_product(tmp_path: Path):
    peak = claim("trn3-chip-compute", value=1.0, format="bf16")
    rows = [product("trainium2", 10.0, 64), product("trainium3", 1.0, 64), product("trainium2", 600.0, 8192),
            product("trainium3", 620.0, 8192)]  # fmt: skip
    found = measured(tmp_path, peak, *rows)
    assert (found.verdict, len(found.basis)) == ("supported", 1)
    assert found.basis[0].startswith("product 8192")


def test_training_steps_may_support_a_peak_in_two_formats_and_not_contradict_it(tmp_path: Path):
    peak = claim("trn3-chip-compute", format="sides")
    words = [
        measured(tmp_path, peak, step("trainium2", 100.0, IN_FP8), step("trainium3", rate, IN_MXFP8)).verdict
        for rate in (190.0, 110.0)
    ]
    assert words == ["supported", "not_decided"]


def test_a_baseline_that_the_claim_does_not_name_decides_nothing(tmp_path: Path):
    shipped = claim(value=2.0)
    taken = replace(shipped, denominator=replace(shipped.denominator, named=False))
    found = measured(tmp_path, taken, step("trainium2", 100.0), step("trainium3", 500.0))
    assert (found.verdict, found.found.value) == ("not_decided", pytest.approx(5.0))
    assert "the claim does not name it: trainium2 is taken for it" in found.basis


def test_rows_of_other_work_than_the_named_model_are_left_aside(tmp_path: Path):
    named = claim(value=2.0, model="llama-3-70b")
    found = measured(tmp_path, named, step("trainium2", 100.0), step("trainium3", 500.0))
    assert "1 of 1 rows of trainium2 are not of llama-3-70b" in found.basis
    assert found.missing[0] == "trainium3: tokens_per_s_per_chip of a case that names llama-3-70b"
    assert (found.command, found.basis[-1]) == (None, "no shipped suite has a case that names llama-3-70b")
    case = "llama-3-70b seq 8192"
    rows = step("trainium2", 100.0, case=case), step("trainium3", 500.0, case=case)
    assert measured(tmp_path, named, *rows).verdict == "supported"


def test_costs_are_judged_as_savings(tmp_path: Path):
    priced = {"usd_per_hour": 36.0, "purchase": "capacity_block", "allocation": "whole", "placement": "node"}
    rows = [
        step("trainium2", 2000.0, chips=16.0, devices_used=64, world_size=64, **priced),
        step("h200", 1300.0, chips=8.0, devices_used=8, world_size=8, devices_per_chip=1, **priced),
    ]
    found = measured(tmp_path, claim("trn2-price-performance"), *rows)
    assert (found.verdict, found.found.value) == ("supported", pytest.approx(0.35))
    unpriced = [replace(row, usd_per_hour=None) for row in rows]
    found = measured(tmp_path, claim("trn2-price-performance"), *unpriced)
    assert (found.verdict, found.found) == ("not_decided", None)
    assert "not known of h200 and trainium2" in found.basis


# --- what would settle it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", library.load(), ids=lambda one: one.claim)
def test_every_command_measures_the_rows_that_are_missing(one):
    found = judged(one).measured
    assert (found.verdict == "not_testable") or found.missing, "what is open says what is missing"
    for line in (found.command or "").splitlines():
        words = shlex.split(line)
        assert words[:2] == ["perwatt", "run"]
        patterns = [words[at + 1] for at, word in enumerate(words) if word == "--only"]
        cases = picked(suite.load(words[2]), patterns).cases
        keys = {case.match_key for case in cases}
        assert words[words.index("--device") + 1] in backends.available()
        assert all(any(f"match_key {key})" in row for key in keys) for row in found.missing)


def test_rows_that_are_missing_come_with_what_they_cost_at_most():
    def cost(name: str, chip: str) -> list[str]:
        return [line.rpartition("; ")[2] for line in judged(shipped()[name]).measured.missing if line.startswith(chip)]

    day = "2.235 USD/h (trn2.3xlarge, capacity_block, 2026-07-22), the lowest known"
    # by hand: an hour is two timeouts of 1,800 s; two impls; three processes, or three runs of those and a window each
    assert cost("trn3-training-speed-per-chip", "trainium2") == [
        f"at most 3 h by the suite's timeouts, which is {3 * 2.235:.2f} USD at {day}"
    ]
    assert cost("trn3-headline-equal-power", "trainium2") == [
        f"at most 12 h by the suite's timeouts, which is {12 * 2.235:.2f} USD at {day}"
    ]
    both = cost("trn2-training-speed", "trainium2")  # with recomputation and without
    assert both == [f"at most 6 h by the suite's timeouts, which is {6 * 2.235:.2f} USD at {day}"]
    assert cost("trn3-training-speed-per-chip", "trainium3") == ["no price is known of a machine with trainium3"]
    assert "at most 3 h by the suite's timeouts; no price" in judged(shipped()["trn3-chip-compute"]).measured.missing[0]


def test_a_claim_may_name_the_cases_that_test_it():
    own = claim(tested_by=Cases(suite="train", only=("train_step*",)))
    found = judged(own).measured
    assert found.command == "perwatt run train --only 'train_step*' --device neuron"
    assert all("in suite train (match_key " in line for line in found.missing)


def test_levels_never_mix(tmp_path: Path):
    own = claim(value=4.0)
    csvfile.write([step("trainium2", 100.0), step("trainium3", 900.0)], tmp_path / "rows.csv")
    alone, with_rows = judged(own), judged(own, perwatt.load(tmp_path / "rows.csv"))
    assert (with_rows.datasheet, with_rows.published) == (alone.datasheet, alone.published)
    assert (with_rows.datasheet.verdict, with_rows.measured.verdict) == ("contradicted", "supported")


def test_published_rows_given_as_results_are_not_measured_ones():
    found = judged(claim("h100-training-speed-bf16", format="bf16"), perwatt.load(published.find("nvidia-bf16")))
    assert (found.measured.verdict, found.measured.found) == ("not_decided", None)
    assert found.published.found is not None
