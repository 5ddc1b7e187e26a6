"""Claims by data sheets: the arithmetic of every published claim, and the words on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perwatt.analysis.claims import library
from perwatt.analysis.claims.datasheet import datasheet
from perwatt.analysis.claims.judgement import judged
from perwatt.hardware.library import bibliography
from support.claimed import claim, shipped

ROWS = [*(f"T{n}" for n in range(1, 21)), *(f"N{n}" for n in range(1, 7)), *(f"G{n}" for n in range(1, 6)), "A1"]
"""The collection of published claims: Trainium, NVIDIA, Google, AMD."""

FIGURES = [  # claim, row, figure as the collection works it out, verdict of the sheets
    ("trn3-headline-equal-power", "T8", 1.38, "contradicted"),
    ("trn3-headline-equal-energy", "T8", 1.94, "contradicted"),
    ("trn3-ultraserver-compute", "T1", 4.36, "supported"),
    ("trn3-ultraserver-per-watt", "T2", 1.38, "not_decided"),
    ("trn3-generation-per-watt", "T3", 1.38, "not_decided"),
    ("trn3-ultraserver-bandwidth", "T5", 3.80, "contradicted"),
    ("trn3-chip-compute", "T6", 1.94, "supported"),
    ("trn3-chip-memory", "T6", 1.50, "supported"),
    ("trn3-chip-bandwidth", "T6", 1.69, "supported"),
    ("trn3-ultraserver-peak", "T7", 362.4, "supported"),
    ("trn3-ultraserver-memory", "T7", 144 * 144, "supported"),
    ("trn3-ultraserver-memory-rate", "T7", 705.6, "supported"),
    ("trn3-training-speed", "T8", 4.36, "not_decided"),
    ("trn3-training-speed-per-chip", "T8", 1.94, "contradicted"),
    ("trn3-link-bandwidth", "T11", 2.00, "not_decided"),
    ("trn2-training-speed", "T13", 3.5, "not_decided"),
    ("trn2-instance-compute", "T14", 3.5, "supported"),
    ("trn2-instance-bandwidth", "T14", 3.5, "supported"),
    ("trn2-instance-memory", "T14", 3.0, "supported"),
    ("trainium-customers-cost", "T12", 0.16, "not_decided"),
    ("trn2-price-performance", "T15", 0.36, "not_decided"),
    ("trn2-price-performance-p5e", "T15", 0.33, "not_decided"),
    ("trn2-instance-peak", "T16", 20.8, "supported"),
    ("trn2-ultraserver-peak", "T16", 83.2, "supported"),
    ("trn1-cost-to-train", "T17", 0.20, "not_decided"),
    ("trn1-throughput", "T17", 1.218, "not_decided"),
    ("h100-training-speed", "N1", 6.3, "not_decided"),
    ("h100-training-speed-bf16", "N1", 3.2, "contradicted"),
    ("dgx-b200-training-speed", "N2", 2.27, "not_decided"),
    ("gb200-training-speed", "N3", 2.53, "not_decided"),
    ("gb200-training-speed-nvfp4", "N3", 5.05, "not_decided"),
    ("gb300-405b", "N4", 7.58, "not_decided"),
    ("gb300-lora", "N4", 7.58, "not_decided"),
    ("gb200-ownership", "N5", 2.53, "not_decided"),
    ("mi355x-mlperf", "A1", 1.12, "not_decided"),
    ("mi355x-mlperf-8b", "A1", 1.12, "not_decided"),
    ("trillium-energy", "G4", 2.76, "not_decided"),
    ("ironwood-per-watt", "G1", 1.99, "not_decided"),
    ("ironwood-training-speed", "G2", 5.0, "not_decided"),
    ("ironwood-pod-peak", "G2", 42.5, "supported"),
    ("tpu-series-per-watt", "G3", 29.3, "not_decided"),
    ("trillium-peak", "G4", 4.66, "supported"),
    ("tpu8-pod-peak", "G5", 2.85, "supported"),
]

ALSO = [  # claim, line of arithmetic beside it, its result
    ("trn3-ultraserver-compute", "of which chips alone", "= 2.25"),
    ("trn3-ultraserver-compute", "per chip", "= 1.94"),
    ("trn3-ultraserver-compute", "in BF16", "= 2.26"),
    ("trn3-ultraserver-per-watt", "watts of the chips", "= 3.15 "),
    ("trn3-ultraserver-per-watt", "in BF16", "= 0.72 "),
    ("trn3-headline-equal-power", "in BF16", "= 0.72 "),
    ("trn3-ultraserver-bandwidth", "per chip", "= 1.69"),
    ("trn3-inference", "compute per chip", "= 1.94"),
    ("trn3-inference", "bandwidth per chip", "= 1.69"),
    ("trn2-training-speed", "in FP32", "= 3.81"),
    ("trn2-training-speed", "bandwidth", "= 3.54"),
    ("trn2-instance-compute", "in FP8", "= 6.84"),
    ("trn2-price-performance", "at prices of 2026-07", "= 51.7 % less"),
    ("trn2-price-performance", "at prices of 2026-10", "= 58 % less"),
    ("trn2-price-performance", "p5en.48xlarge", "5.26 USD for a PFLOP/s hour"),
    ("trn2-price-performance", "trn2.48xlarge", "3.35 USD for a PFLOP/s hour"),
    ("trn1-cost-to-train", "trn1.32xlarge", "7.07 USD for a PFLOP/s hour"),
    ("trn1-cost-to-train", "p4d.24xlarge", "8.8 USD for a PFLOP/s hour"),
    ("h100-training-speed", "in BF16", "= 3.17"),
    ("ironwood-per-watt", "in BF16 on both", "= 0.99"),
    ("ironwood-training-speed", "in BF16 on both", "= 2.51"),
    ("tpu-series-per-watt", "v6e (14.6)", "= 14.70"),
    ("tpu-series-per-watt", "v5p (5.2)", "= 5.17"),
    ("tpu-series-per-watt", "v4 (4.9)", "= 4.92"),
    ("trn2-price-performance-p5e", "at prices of 2026-07", "= 44.5 % less"),
]

NOT_TESTABLE = {"T4", "T9", "T10", "T18", "T19", "T20", "G1", "G2", "G3", "G4", "G5"}


def test_every_published_claim_has_a_file():
    assert list(dict.fromkeys(one.row for one in sorted(library.load(), key=lambda one: ROWS.index(one.row)))) == ROWS


def test_the_headline_comes_first_and_is_two_claims():
    first, second, third = library.load()[:3]
    assert {first.claim, second.claim} == {"trn3-headline-equal-power", "trn3-headline-equal-energy"}
    assert third.row == "T1"
    assert {first.iso, second.iso} == {"power", "energy"}


@pytest.mark.parametrize(("name", "row", "figure", "verdict"), FIGURES)
def test_sheets_give_the_arithmetic_of_the_collection(name: str, row: str, figure: float, verdict: str):
    found = datasheet(shipped()[name])
    assert shipped()[name].row == row
    digits = max(len(f"{figure:g}".partition(".")[2]), 1)
    assert found.found
    assert found.found.value == pytest.approx(figure, abs=0.5001 * 10**-digits + (0.02 if row == "T13" else 0))
    assert found.verdict == verdict


@pytest.mark.parametrize(("name", "what", "result"), ALSO)
def test_arithmetic_beside_a_claim_is_shown(name: str, what: str, result: str):
    assert [line for line in datasheet(shipped()[name]).basis if line.startswith(f"{what}: ") and result in line]


@pytest.mark.parametrize(
    ("name", "when"),
    [("trn3-bedrock", "2026"), ("dgx-b200-training-speed", "undated"), ("h100-training-speed", "2022")],
)
def test_no_month_is_made_up(name: str, when: str):
    one = claim(name)
    assert one.when == when
    assert library.said()[one.source].date == when


def test_a_claim_of_no_known_month_is_judged_by_prices_of_its_year_alone():
    one = claim("trn2-price-performance")  # prices of 2026-01
    late = {
        when: "and was made at other prices" in " ".join(datasheet(replace(one, when=when)).basis)
        for when in ("2025", "2025-02", "2025-01", "2024", "2024-12", "undated")
    }
    assert late == {"2025": False, "2025-02": False, "2025-01": False, "2024": True, "2024-12": True, "undated": True}


def test_both_halves_of_what_software_alone_gained_are_there():
    assert [(shipped()[name].value, shipped()[name].format) for name in ("h100-software", "h100-software-fp8")] == [
        (1.59, "bf16"), (1.34, "fp8"),
    ]  # fmt: skip


def test_what_nobody_claimed_is_marked_as_our_reading():
    one = claim("h100-training-speed-bf16")
    assert one.statement.startswith("our reading, which NVIDIA never claimed")
    assert one.who != "NVIDIA"


def test_the_headline_in_full():
    found = judged(shipped()["trn3-headline-equal-power"])
    assert found.datasheet.found
    ends = found.datasheet.found.lo, found.datasheet.found.hi
    assert ends == pytest.approx((0.97, 1.61), abs=0.006)
    assert "takes 2.89 times the fraction on trainium3 of that on trainium2" in found.datasheet.basis[1]
    assert found.datasheet.quality == "B, watts assumed (trainium3-700w, trainium2-500w)"
    assert found.measured.verdict == "not_testable"
    assert [line.partition(":")[0] for line in found.measured.missing] == ["trainium3", "trainium2"]
    assert found.measured.command


@pytest.mark.parametrize("row", sorted(NOT_TESTABLE))
def test_what_no_row_can_tell_says_so_with_its_reason(row: str):
    for one in shipped().values():
        if one.row == row:
            found = judged(one).measured
            assert (found.verdict, found.found) == ("not_testable", None)
            assert one.not_testable in found.basis


def test_a_system_is_not_judged_from_sheets_of_chips():
    found = datasheet(shipped()["gb300-405b"])
    assert found.verdict == "not_decided"
    assert any(line.startswith("the claim is of a cluster, the sheets are of chips") for line in found.basis)


def test_a_chip_without_watts_to_assume_is_one_line_and_no_figure():
    found = datasheet(shipped()["trn2-energy"])
    assert (found.verdict, found.found) == ("not_decided", None)
    assert found.basis[0].startswith("trainium1 has no watts to assume: AWS publishes no watt figure")


def test_a_system_without_a_price_is_one_line_and_no_figure():
    one = claim("trn2-price-performance")
    unpriced = replace(one, numerator=replace(one.numerator, of="trn3-gen1-ultraserver"))
    found = datasheet(unpriced)
    assert (found.verdict, found.found) == ("not_decided", None)
    assert found.basis[0].startswith("found no capacity_block price of trn3-gen1-ultraserver")


def test_roofs_contradict_achieved_work_only_where_it_takes_over_twice_the_fraction():
    one = claim("trn3-training-speed-per-chip")  # the roofs are 1.94 apart
    words = {value: datasheet(replace(one, value=value)).verdict for value in (1.9, 3.8, 3.9)}
    assert words == {1.9: "not_decided", 3.8: "not_decided", 3.9: "contradicted"}
    sheet = claim("trn3-chip-compute", quantifier="at_least")
    assert datasheet(replace(sheet, value=3.8)).verdict == "contradicted", "a peak is what the sheet says it is"


def test_roofs_never_support_achieved_work():
    one = claim("trn3-training-speed-per-chip", value=1.5)
    found = datasheet(one)
    assert (found.verdict, found.found.value) == ("not_decided", pytest.approx(1.94, abs=0.01))
    assert any(line.startswith("a roof at or above what is claimed leaves room for it") for line in found.basis)
    assert datasheet(replace(one, metric="peak")).verdict == "supported", "the sheet says what a peak is"
    words = {one.claim: datasheet(one).verdict for one in shipped().values() if one.quantity.achieved}
    assert "supported" not in words.values()


def test_prices_of_another_year_than_the_claim_decide_nothing():
    one = claim("trn2-price-performance")
    near = replace(one, when="2025-06")
    assert "a price of trn2.48xlarge of 2024-12-03" in datasheet(one).missing
    assert not [line for line in datasheet(near).missing if "a price of" in line]


def test_every_source_of_claims_is_cited():
    cited = {one.source for one in library.load()}
    assert set(library.said()) <= cited
    assert not set(library.said()) & set(bibliography())
