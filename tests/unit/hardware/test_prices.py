"""Prices: of a date, region and kind of purchase; whole instances and shares; files that are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perwatt.errors import InputError
from perwatt.hardware import prices


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's file of prices that takes effect, and none afterwards."""
    monkeypatch.setenv("PERWATT_PRICES", str(tmp_path / "prices.yaml"))
    prices.read.cache_clear()
    yield tmp_path / "prices.yaml"
    prices.read.cache_clear()


def test_several_dates_are_kept():
    found = [(price.date, price.value) for price in prices.history("p5en.48xlarge", "capacity_block")]
    assert found == [("2025-12", 36.18), ("2026-01-31", 41.612), ("2026-07-22", 54.92), ("2026-10-08", 63.158)]


@pytest.mark.parametrize(
    ("date", "value"),
    [(None, 63.158), ("2026-10-08", 63.158), ("2026-10-07", 54.92), ("2026-01-31", 41.612), ("2026-01-30", 36.18)],
)
def test_the_price_of_a_date_is_the_last_seen_up_to_it(date: str | None, value: float):
    assert prices.price("p5en.48xlarge", "capacity_block", date).value == value


def test_a_region():
    assert prices.price("trn2.48xlarge", "capacity_block", region="us-east-2").value == 35.7608
    assert prices.price("p4d.24xlarge", "capacity_block", region="us-west-2").value == 11.8  # asked for all of the US
    with pytest.raises(InputError, match=r"price: found no capacity_block price of trn2\.48xlarge in eu-west-1"):
        prices.price("trn2.48xlarge", "capacity_block", region="eu-west-1")


def test_a_conflict_is_kept_beside_the_price():
    price = prices.price("p5.48xlarge")
    assert (price.value, price.hi) == (55.04, 98.32)
    assert price.handling
    assert prices.price("p5.48xlarge", date="2025-06-01").value == 98.32


def test_whole_instances_and_shares():
    block = prices.price("trn2.48xlarge", "capacity_block", "2026-07-22")
    whole, share = prices.cost(block, 1), prices.cost(block, 1, "pro_rata")
    assert (whole.usd_per_hour, whole.allocation) == (35.7608, "whole")  # a sixteenth cannot be rented
    assert (share.usd_per_hour, share.allocation) == (pytest.approx(2.23505), "pro_rata")
    assert prices.cost(block, 17).usd_per_hour == pytest.approx(2 * 35.7608)
    assert prices.cost(block, 64, "pro_rata").usd_per_hour == pytest.approx(4 * 35.7608)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("p5.48",), "system: found 'p5.48', expected one of"),
        (("p5.48xlarge", "ondemand"), "purchase: found 'ondemand', expected one of .*did you mean 'on_demand'"),
        (("p5.48xlarge", "on_demand", "2020-01-01"), "date: found no .* up to 2020-01-01, expected 2025-05 or later"),
        (("trn2.48xlarge",), "price: found no on_demand price of trn2.48xlarge .no reliable figure.*expected capacity"),
        (("trn3-gen2-ultraserver",), "not in the price list of 2026-08-01"),
    ],
)
def test_prices_that_there_are_not(asked: tuple[str, ...], message: str):
    with pytest.raises(InputError, match=message):
        prices.price(*asked)


OWN = """\
prices:
  - instance: trn2.48xlarge
    purchase: reserved
    regions: [us-east-2]
    date: 2026-11-01
    value: 20
    unit: USD/h
    source: contract
    grade: A
  - {instance: trn2.48xlarge, purchase: capacity_block, regions: [us-east-2], date: 2026-07-22, value: 30,
     unit: USD/h, source: contract, grade: A}
sources: {contract: {title: our contract, location: drawer, date: 2026-11-01}}
"""


def test_a_file_that_is_asked_for_has_to_be_there(own: Path):
    with pytest.raises(InputError, match="cannot be read"):
        prices.read()


def test_prices_of_the_users_own(own: Path):
    own.write_text(OWN)
    price = prices.price("trn2.48xlarge", "reserved")
    assert (price.value, price.file, price.line) == (20, str(own), 2)
    assert prices.price("trn2.48xlarge", "capacity_block", "2026-07-22").value == 30, "the user's of the same day"
    assert prices.price("trn2.48xlarge", "capacity_block").value == 35.7608, "a later one of the shipped"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("    date: 2026-11-01\n", "", "2: prices[0].date: found nothing, expected a value"),
        ("    date: 2026-11-01\n", "    date: yesterday\n",
         "5: prices[0].date: found 'yesterday', expected YYYY-MM or YYYY-MM-DD"),
        ("    unit: USD/h\n", "", "2: prices[0].unit: found nothing, expected a value"),
        ("    regions: [us-east-2]\n", "    regions: []\n", "4: prices[0].regions: found an empty list"),
        ("purchase: reserved", "purchase: reservd", "3: prices[0].purchase: found 'reservd', expected one of"),
        ("- instance: trn2.48xlarge", "- instance: trn2.48xl", "2: prices[0].instance: found 'trn2.48xl', expected"),
        ("    source: contract\n", "    source: contrat\n", "8: prices[0].source: found 'contrat', expected"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(own: Path, old: str, new: str, line: str):
    assert OWN.count(old) == 1
    own.write_text(OWN.replace(old, new))
    with pytest.raises(InputError) as caught:
        prices.read()
    assert str(caught.value).startswith(f"{own}:{line}")
    assert "\n" not in str(caught.value)
