"""How a card is set up, through the real bindings and a fake library."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fakes import nvml as fake
from fakes.nvml import GIB, Card, Instance, NvmlLibrary
from perwatt.hardware import nvml
from perwatt.hardware.nvml_settings import settings

Install = Callable[..., NvmlLibrary]


@pytest.fixture
def install() -> Iterator[Install]:
    with fake.installing() as put:
        yield put


def test_a_card_as_it_was_made(install: Install) -> None:
    install(Card(uuid="GPU-a"))
    found = settings("GPU-a")
    assert (found.persistence, found.prohibited, found.waiting, found.beyond_repair) == (True, False, False, False)
    assert (found.power_limit_w, found.default_limit_w, found.clock_mhz, found.default_clock_mhz) == (
        700.0, 700.0, 1980.0, 1980.0,
    )  # fmt: skip
    assert found.ecc == (True, True)


def test_what_a_card_does_not_tell_is_unknown(install: Install) -> None:
    silent = Card(
        uuid="GPU-a", persistence=None, power_limit_mw=None, default_limit_mw=None, application_mhz=None,
        ecc_modes=None, capability=(8, 0), mig=[Instance("MIG-0", "3g.20gb", 20 * GIB)],
    )  # fmt: skip
    install(silent)
    found = settings("GPU-a")
    assert (found.persistence, found.power_limit_w, found.default_limit_w) == (None, None, None)
    assert (found.clock_mhz, found.default_clock_mhz, found.ecc) == (None, None, None)
    assert (found.waiting, found.beyond_repair) == (None, None)  # of a card with instances nobody tells


@pytest.mark.parametrize(
    ("card", "waiting", "beyond_repair"),
    [
        (Card(uuid="GPU-a", remapped=(1, 1, True, False)), True, False),
        (Card(uuid="GPU-a", remapped=(0, 9, False, True)), False, True),
        (Card(uuid="GPU-a", capability=(7, 0), pages_waiting=True), True, None),
        (Card(uuid="GPU-a", capability=(7, 0)), False, None),
    ],
)
def test_memory_that_waits_to_be_replaced(
    install: Install, card: Card, waiting: bool, beyond_repair: bool | None
) -> None:  # fmt: skip
    install(card)
    found = settings("GPU-a")
    assert (found.waiting, found.beyond_repair) == (waiting, beyond_repair)


def test_a_library_without_newer_questions(install: Install) -> None:
    install(Card(uuid="GPU-a"), unknown=["nvmlDeviceGetRemappedRows", "nvmlDeviceGetApplicationsClock"])
    found = settings("GPU-a")
    assert (found.waiting, found.clock_mhz, found.power_limit_w) == (None, None, 700.0)


def test_a_card_that_is_gone(install: Install) -> None:
    install(Card())
    with pytest.raises(nvml.NoDriver):
        settings("GPU-of-yesterday")
