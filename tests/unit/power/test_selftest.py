"""Verdicts of self-tests, remembered for one user, host and driver."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from perwatt.errors import InputError
from perwatt.power import selftest
from support.power import PaperSensor

SENSOR = PaperSensor("fake")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "perwatt" / "sensors.json"


def test_nothing_is_known_before_the_first_test(cache: Path) -> None:
    assert selftest.failed(SENSOR, "d1") == ""
    assert not cache.exists(), "asking writes nothing"


def test_a_verdict_is_kept_until_the_next(cache: Path) -> None:
    selftest.remember("fake", "d1", "it is stuck")
    selftest.remember("other", "d1", "")
    assert selftest.failed(SENSOR, "d1") == "it is stuck"
    assert selftest.failed(PaperSensor("other"), "d1") == ""
    assert len(json.loads(cache.read_text())) == 2
    selftest.remember("fake", "d1", "")
    assert selftest.failed(SENSOR, "d1") == ""


def test_it_is_of_one_driver_and_one_host(monkeypatch: pytest.MonkeyPatch) -> None:
    selftest.remember("fake", "d1", "it is stuck")
    selftest.remember("fake", None, "it is zero")
    assert [selftest.failed(SENSOR, driver) for driver in ("d1", "d2", None)] == ["it is stuck", "", "it is zero"]
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert selftest.failed(SENSOR, "d1") == ""


def test_without_the_variable_it_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    selftest.remember("fake", "d1", "it is stuck")
    assert (tmp_path / "home" / ".cache" / "perwatt" / "sensors.json").is_file()
    assert selftest.failed(SENSOR, "d1") == "it is stuck"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\xff"])
def test_a_file_that_is_broken_says_nothing_and_is_written_anew(cache: Path, text: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(text.encode("latin-1"))
    assert selftest.failed(SENSOR, "d1") == ""
    selftest.remember("fake", "d1", "it is stuck")
    assert selftest.failed(SENSOR, "d1") == "it is stuck"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match=r"sensors\.json: cannot be written \(not a directory\)"):
        selftest.remember("fake", "d1", "it is stuck")
