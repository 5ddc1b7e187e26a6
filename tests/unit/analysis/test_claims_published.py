"""Claims by published rows: the same model, sequence and format by name."""

from __future__ import annotations

import pytest

from perwatt.analysis.claims.published import published
from support.claimed import claim


@pytest.mark.parametrize(
    ("name", "verdict", "figure"),
    [
        ("gb300-405b", "supported", 1413 / 326),  # across formats, as the claim is
        ("gb200-training-speed-nvfp4", "supported", 1166 / 326),
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
    assert any("source or release and chips differ" in line for line in found.basis)
    assert found.verdict == "not_decided", "one model gets 3 times, the others 2"


def test_a_chip_at_another_power_limit_is_another_chip():
    lines = published(claim("dgx-b200-training-speed")).basis
    assert not [line for line in lines if "512 chips" in line], "those 512 ran at 500 W"


def test_pairs_that_all_contradict():
    found = published(claim("gb200-training-speed"))
    assert (found.verdict, found.missing) == ("contradicted", ())
    assert found.quality == "A, 4 pairs"
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
