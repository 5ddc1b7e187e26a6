from __future__ import annotations

import copy
import json

import pytest

from perwatt.backends.base import Device
from perwatt.runner import environment

DEVICE = Device(chip="Test CPU", devices_per_chip=1, memory_bytes=8.1e9, cache_bytes=1e6, threads=2)


@pytest.fixture
def record(monkeypatch):
    for name in environment.VARIABLES:  # that the machine has where tests run
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "NEURON_RT_SECRET", "OMP_TOKEN", "TORCH_HOME"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    return environment.record(DEVICE, {"torch": "2.13.0"})


def test_only_listed_variables_are_recorded(record):
    assert record["variables"] == {"OMP_NUM_THREADS": "2"}
    assert "hunter2" not in json.dumps(record)


def test_preloaded_libraries_are_named_without_their_folders(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libtcmalloc.so:/x/libiomp5.so")
    assert environment.record(DEVICE, {})["variables"]["LD_PRELOAD"] == "libtcmalloc.so libiomp5.so"


def test_host_is_hashed(record, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "db-master-7.example.com")
    again = environment.record(DEVICE, {"torch": "2.13.0"})
    assert again["host"] != record["host"]
    assert "example" not in json.dumps(again)


def test_id_ignores_host_commit_and_the_last_bytes_of_memory(record):
    other = copy.deepcopy(record)
    other["host"], other["perwatt"]["git_sha"] = "x", "y"
    assert environment.env_id(other) == environment.env_id(record)
    assert environment.differences(record, other) == []
    assert "memory_bytes" not in record["device"]


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("libraries", "torch", "2.14.0"), ("cpu", "model", "Other"), ("variables", "MKL_NUM_THREADS", "1"),
        ("device", "threads", 3), ("system", "kernel", "7.0"),
    ],
)  # fmt: skip
def test_what_changes_numbers_changes_the_id_and_is_named(record, section, name, value):
    other = copy.deepcopy(record)
    other[section][name] = value
    assert environment.env_id(other) != environment.env_id(record)
    found = environment.differences(record, other)
    assert len(found) == 1
    assert found[0].startswith(f"{section}.{name}: found {value!r}, expected ")


def test_names_are_unique():
    assert len(set(environment.VARIABLES)) == len(environment.VARIABLES)


def test_git_sha_of_an_installed_package_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr("perwatt.__file__", str(tmp_path / "site-packages" / "perwatt" / "__init__.py"))
    assert environment.git_sha() is None


def test_git_sha_tells_local_changes(monkeypatch, tmp_path):
    package = tmp_path / "bench" / "perwatt"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr("perwatt.__file__", str(package / "__init__.py"))
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "t")
    assert environment._git(tmp_path, "init", "-q") == ""
    assert environment.git_sha() is None  # no commit yet
    environment._git(tmp_path, "add", ".")
    environment._git(tmp_path, "commit", "-q", "-m", "x")
    clean = environment.git_sha()
    assert clean is not None
    assert len(clean) == 40
    (package / "__init__.py").write_text("changed")
    assert environment.git_sha() == clean + "+"
