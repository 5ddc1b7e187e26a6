"""Claims by published rows: the same model, sequence and format by name."""

from __future__ import annotations

import pytest

from perwatt.analysis.claims.published import published
from support.claimed import claim


@pytest.mark.parametrize(
    ("name", "verdict", "figure"),
    [
        ("gb300-405b", "not_decided", 1413 / 326),  # across formats, as the claim is; of 256 and 1,024 chips
        ("gb200-training-speed-nvfp4", "not_decided", 1166 / 326),
        ("dgx-b200-training-speed", "contradicted", 30624 / 14451),  # the one pair of 8 and 8 chips
        ("h100-training-speed-bf16", "not_decided", (10643 / 4641 * 4792 / 2262) ** 0.5),  # up to, by two cases
    ],
)
def test_pairs_of_published_rows(name: str, verdict: str, figure: float):
    found = published(claim(name))
    assert found.found
    assert (found.verdict, found.found.value) == (verdict, pytest.approx(figure))


def test_every_pair_is_shown_with_what_differs():
    found = published(claim("dgx-b200-training-speed"))
    assert found.basis[0] == "llama-3-8b seq 8192 fp8 (8 and 8 chips): 30,624 / 14,451 = 2.12"
    assert found.basis[2].startswith(
        "qwen3-30b-a3b seq 4096 fp8 (8 and 16 chips): 27,136 / 8,960 = 3.03, chips differ;"
    )


def test_pairs_of_one_release_come_first():
    lines = published(claim("dgx-b200-training-speed")).basis
    assert [line.partition(": ")[2].partition(" =")[0] for line in lines if "405b" in line] == ["661 / 292"]
    assert not [line for line in lines if "release" in line]


def test_pairs_of_other_numbers_of_chips_are_shown_and_do_not_judge():
    found = published(claim("gb200-training-speed"))
    assert (found.verdict, found.found.value) == ("not_decided", pytest.approx(2.54, abs=0.01))
    assert len(found.basis) == 5
    assert all(line.endswith("it does not judge, as gb200-nvl72 has 72 chips") for line in found.basis[:4])
    assert found.missing == (
        "a published train_step row of gb200 in fp8 on 72 chips: tokens_per_s_per_chip",
        "a published train_step row of h100-sxm in fp8 on 72 chips: tokens_per_s_per_chip",
    )
    unequal = published(claim("gb300-405b"))
    assert unequal.basis[0].endswith("it does not judge, as the claim is of as many chips on both sides")
    assert published(claim("gb300-405b", iso="nothing")).verdict == "supported", "256 against 1,024"
    assert published(claim("gb300-405b", iso="nothing", scope="server")).verdict == "not_decided", "they are clusters"


def test_what_is_missing_beside_pairs_is_what_would_decide():
    short = published(claim("h100-training-speed-bf16"))
    assert short.missing == ("a case that reaches 9 x; one that falls short decides nothing",)
    mixed = published(claim("dgx-b200-training-speed", scope="chip", iso="nothing"))
    assert (mixed.verdict, mixed.missing) == ("not_decided", ()), "one model gets 3 times, the others 2"


def test_a_chip_at_another_power_limit_is_another_chip():
    lines = published(claim("dgx-b200-training-speed")).basis
    assert not [line for line in lines if "512 chips" in line], "those 512 ran at 500 W"


def test_pairs_that_all_contradict():
    found = published(claim("gb200-training-speed", scope="chip"))
    assert (found.verdict, found.missing) == ("contradicted", ())
    assert found.quality == "A, 2 pairs", "of as many chips"
    assert found.found.hi < 3.5


def test_what_nobody_published_is_named():
    found = published(claim("trn3-training-speed-per-chip"))
    assert (found.verdict, found.found) == ("not_decided", None)
    assert found.missing == (
        "a published train_step row of trainium3 in mxfp8: tokens_per_s_per_chip",
        "a published train_step row of trainium2 in fp8: tokens_per_s_per_chip",
    )


def test_rates_of_a_chip_do_not_judge_systems_of_different_size():
    found = published(claim("trn1-throughput"))
    assert (found.verdict, found.found) == ("not_decided", None)
    assert found.basis == ("published rates are of a chip, and the claim is of systems with different numbers of them",)
